"""What JupyterLab's server does otherwise when `make course` opens it."""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """A kernel's messages go out at once; stock lets a small one wait for the next (Nagle), and the player for both."""

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()
