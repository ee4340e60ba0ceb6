// The browser's side of wmlib.widgets.Player: it reads keys and buttons, asks for steps and paints the answers.

const KEYS = {
    ArrowLeft: "left", ArrowRight: "right", ArrowUp: "gas", ArrowDown: "brake",
    KeyA: "left", KeyD: "right", KeyW: "gas", KeyS: "brake",
};
const SIDE = 64;
const UNDER_WAY = 3; // steps asked for and not yet answered: the way to the kernel and back then costs no step
const PATIENCE = 3000; // milliseconds without an answer after which the player says so

const PAGE = `
    <div class="wm-player" tabindex="0" role="application" data-lm-suppress-shortcuts="true">
        <canvas width="${SIDE}" height="${SIDE}"></canvas>
        <div class="wm-line" role="status"></div>
        <div class="wm-buttons">
            <button type="button" data-key="left" aria-label="steer left">&#9664;</button>
            <button type="button" data-key="brake" aria-label="brake">brake</button>
            <button type="button" data-key="gas" aria-label="gas">gas</button>
            <button type="button" data-key="right" aria-label="steer right">&#9654;</button>
        </div>
        <button type="button" class="wm-again">start again</button>
        <label>speed
            <select>
                <option value="50">full</option>
                <option value="25">half</option>
                <option value="12">a quarter</option>
            </select>
        </label>
        <div class="wm-keys">arrow keys or W A S D drive, space pauses, Esc leaves</div>
    </div>`;

function render({ model, el }) {
    el.innerHTML = PAGE;
    const parts = [".wm-player", "canvas", ".wm-line", ".wm-again", "select"];
    const [player, canvas, line, again, speed] = parts.map((name) => el.querySelector(name));
    player.setAttribute("aria-label", model.get("label"));
    const brush = canvas.getContext("2d");
    const pressed = new Set();
    let mode = "ready"; // or driving, paused, over
    let drive = 0, underWay = 0, due = 0, heard = performance.now(), score = "", ending = "";

    function ask(content) {
        if (underWay === 0) heard = performance.now();
        underWay += 1;
        model.send(content);
    }

    function say() {
        const silent = underWay > 0 && performance.now() - heard > PATIENCE;
        const state = silent ? "waiting for the kernel: it is busy, or was restarted (then run this cell again)"
            : { ready: "click the picture to drive", driving: "", paused: "paused", over: ending }[mode];
        const text = [score, state].filter((part) => part).join(" · ");
        if (line.textContent !== text) line.textContent = text;
        player.dataset.mode = silent ? "waiting" : mode;
    }

    function paint({ status, over, drive: number }, [view]) {
        underWay = Math.max(0, underWay - 1);
        heard = performance.now();
        if (number < drive) return; // a late answer about the drive before
        drive = number;
        const rgb = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        const image = brush.createImageData(SIDE, SIDE);
        for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
            image.data.set(rgb.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
            image.data[4 * pixel + 3] = 255;
        }
        brush.putImageData(image, 0, 0);
        score = status;
        ending = over;
        if (over) mode = "over";
        say();
    }

    function play() {
        if (mode !== "over") mode = "driving";
        say();
    }

    function pause() {
        if (mode === "driving") mode = "paused";
        pressed.clear();
        say();
    }

    function press(event) {
        if (event.target !== player || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.code === "Escape") player.blur();
        else if (event.code === "Space") { if (!event.repeat) mode === "driving" ? pause() : play(); }
        else if (event.code in KEYS) { pressed.add(KEYS[event.code]); if (mode === "ready") play(); }
        else return;
        event.preventDefault(); // no scrolling
        event.stopPropagation(); // no switching of cells
    }

    player.addEventListener("blur", pause);
    player.addEventListener("keydown", press);
    player.addEventListener("keyup", (event) => pressed.delete(KEYS[event.code]));
    canvas.addEventListener("click", () => { player.focus(); play(); });
    for (const button of el.querySelectorAll("[data-key]")) {
        const release = () => pressed.delete(button.dataset.key);
        button.addEventListener("pointerdown", (event) => {
            event.preventDefault(); // the player keeps the focus
            button.setPointerCapture(event.pointerId);
            player.focus();
            play();
            pressed.add(button.dataset.key);
        });
        for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(end, release);
    }
    again.addEventListener("click", () => {
        drive += 1;
        mode = "ready";
        ask({ again: true });
        player.focus();
        play();
    });
    model.on("msg:custom", paint);
    ask({});

    const clock = setInterval(() => {
        const now = performance.now(), pace = 1000 / speed.value;
        if (mode === "driving" && underWay < UNDER_WAY && now >= due) {
            due = Math.max(due + pace, now - pace);
            ask({ pressed: [...pressed] });
        }
    }, 2);
    const watch = setInterval(say, 250);
    return () => {
        clearInterval(clock);
        clearInterval(watch);
        model.off("msg:custom", paint);
    };
}

export default { render };
