// The browser's side of wmlib.widgets.Player: it reads the keys, asks for one step at a time and paints the answer.

const KEYS = {
    ArrowLeft: "left", ArrowRight: "right", ArrowUp: "gas", ArrowDown: "brake",
    KeyA: "left", KeyD: "right", KeyW: "gas", KeyS: "brake",
};

const PAGE = `
    <div class="wm-player" tabindex="0" role="application" data-lm-suppress-shortcuts="true">
        <canvas width="64" height="64"></canvas>
        <div class="wm-line" role="status"></div>
        <button type="button">start again</button>
        <label>speed
            <select>
                <option value="50">full</option>
                <option value="25">half</option>
                <option value="12">a quarter</option>
            </select>
        </label>
        <div class="wm-keys">
            click the picture, then drive with the arrow keys or W A S D; space pauses, Esc leaves
        </div>
    </div>`;

function render({ model, el }) {
    el.innerHTML = PAGE;
    const parts = [".wm-player", "canvas", ".wm-line", "button", "select"];
    const [player, canvas, line, again, speed] = parts.map((name) => el.querySelector(name));
    player.setAttribute("aria-label", model.get("label"));
    const brush = canvas.getContext("2d");
    const pressed = new Set();
    let playing = false, over = false, waiting = false, asked = 0, drive = 0;

    function ask(content) {
        waiting = true;
        asked = performance.now();
        model.send(content);
    }

    function paint({ status, over: ended, drive: number }, [view]) {
        if (number < drive) return; // a late answer about the drive before
        drive = number;
        const rgb = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        const image = brush.createImageData(64, 64);
        for (let pixel = 0; pixel < 64 * 64; pixel++) {
            image.data.set(rgb.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
            image.data[4 * pixel + 3] = 255;
        }
        brush.putImageData(image, 0, 0);
        line.textContent = status;
        waiting = false;
        over = ended;
        if (over) pause();
    }

    function play() {
        playing = !over;
    }

    function pause() {
        playing = false;
        pressed.clear();
    }

    function press(event) {
        if (event.target !== player || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.code === "Escape") player.blur();
        else if (event.code === "Space") { if (!event.repeat) playing ? pause() : play(); }
        else if (event.code in KEYS) pressed.add(KEYS[event.code]);
        else return;
        event.preventDefault(); // no scrolling
        event.stopPropagation(); // no switching of cells
    }

    player.addEventListener("focus", play);
    player.addEventListener("blur", pause);
    player.addEventListener("keydown", press);
    player.addEventListener("keyup", (event) => pressed.delete(KEYS[event.code]));
    canvas.addEventListener("click", () => { player.focus(); play(); });
    again.addEventListener("click", () => {
        drive += 1;
        ask({ again: true });
        over = false;
        player.focus();
        play();
    });
    model.on("msg:custom", paint);
    ask({});

    const clock = setInterval(() => {
        if (playing && !waiting && performance.now() - asked > 1000 / speed.value - 2) ask({ pressed: [...pressed] });
    }, 2);
    return () => {
        clearInterval(clock);
        model.off("msg:custom", paint);
    };
}

export default { render };
