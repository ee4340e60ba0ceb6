// The browser's side of wmlib.widgets.live.Live: a widget stands in its poster's place while its kernel lives.

async function initialize({ model, signal }) {
    const manager = model.widget_manager;
    const id = model.get("widget");
    const posters = new Map(); // each place on the page where the widget stands now: the poster that stood there

    async function open(place, widget) {
        posters.set(place, [...place.childNodes]);
        const view = await manager.create_view(widget);
        if (!posters.has(place)) return view.remove(); // the place went meanwhile
        place.addEventListener("wm-close", () => view.remove(), { once: true });
        place.replaceChildren(view.el);
        view.luminoWidget.processMessage({ type: "after-attach" }); // a view may wait for it
    }

    function close(place) {
        place.dispatchEvent(new Event("wm-close"));
        place.replaceChildren(...posters.get(place));
        posters.delete(place);
    }

    async function look() {
        for (const place of posters.keys()) if (!place.isConnected) close(place);
        const places = [...document.querySelectorAll(`.wm-${id}`)].filter((place) => !posters.has(place));
        const kernel = manager.isDisposed ? null : manager.kernel; // none once the notebook is closed
        if (places.length === 0 || !kernel || kernel.isDisposed || !manager.has_model(id)) return;
        const widget = await manager.get_model(id);
        if (!widget.comm_live) return; // the kernel was restarted
        for (const place of places) if (place.isConnected && !posters.has(place)) open(place, widget);
    }

    const watch = new MutationObserver(look);
    watch.observe(document.body, { childList: true, subtree: true });
    signal.addEventListener("abort", () => watch.disconnect());
    look();
}

export default { initialize };
