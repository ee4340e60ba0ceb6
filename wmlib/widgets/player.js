// The browser's side of wmlib.widgets' Player and DreamPlayer: it reads keys and buttons, asks for steps and paints
// the answers.

const KEYS = {
    ArrowLeft: "left", ArrowRight: "right", ArrowUp: "gas", ArrowDown: "brake",
    KeyA: "left", KeyD: "right", KeyW: "gas", KeyS: "brake",
};
const SIDE = 64;
const UNDER_WAY = 3; // steps asked for and not yet answered: the way to the kernel and back then costs no step
const PATIENCE = 3000; // milliseconds without an answer after which the player says so
const SHOWN = 200; // steps of agreement that the curve under a dream shows

const VIEW = (caption) => `
    <figure>
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
        ${caption && `<figcaption>${caption}</figcaption>`}
    </figure>`;
const DREAM = `
    <canvas class="wm-curve" height="72" role="img" aria-label="how far the roads of dream and reality overlap, step by step"></canvas>
    <div class="wm-dream">
        <button type="button" class="wm-wheel" aria-pressed="false">C drives</button>
        <button type="button" class="wm-wake">wake up</button>
        <label>temperature
            <input type="range" min="0.1" max="2" step="0.05" value="1">
            <output>1.00</output>
        </label>
    </div>`;
const PAGE = (captions, dream) => `
    <div class="wm-player${dream ? " wm-dreaming" : ""}" tabindex="0" role="application" data-lm-suppress-shortcuts="true">
        <div class="wm-views">${captions.map(VIEW).join("")}</div>
        ${dream ? DREAM : ""}
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

function show(canvas, view) {
    const brush = canvas.getContext("2d");
    const rgb = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const image = brush.createImageData(SIDE, SIDE);
    for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
        image.data.set(rgb.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
        image.data[4 * pixel + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
}

// The overlap of the last SHOWN steps, from 0 at the bottom to 1; dashed, where dream and reality count as parted.
function draw(curve, overlaps, limit, parted) {
    const ink = getComputedStyle(curve).color, brush = curve.getContext("2d");
    const width = curve.width = Math.max(1, curve.clientWidth), height = curve.height;
    const first = Math.max(0, overlaps.length - SHOWN);
    const x = (step) => 4 + (step - first) / SHOWN * (width - 8), y = (overlap) => height - 16 - overlap * (height - 20);
    brush.clearRect(0, 0, width, height);
    brush.font = "12px sans-serif";
    brush.strokeStyle = brush.fillStyle = ink;
    brush.globalAlpha = 0.5;
    brush.setLineDash([4, 4]);
    brush.beginPath();
    brush.moveTo(0, y(limit));
    brush.lineTo(width, y(limit));
    brush.stroke();
    brush.setLineDash([]);
    brush.globalAlpha = 1;
    brush.fillText("the roads' overlap, last four seconds", 4, height - 3);
    brush.textAlign = "right";
    brush.fillText("usable above", width - 4, y(limit) - 4);
    brush.textAlign = "left";
    brush.strokeStyle = "#cc79a7";
    brush.lineWidth = 2.5;
    brush.beginPath();
    for (let step = first; step < overlaps.length; step++) brush.lineTo(x(step), y(overlaps[step]));
    brush.stroke();
    if (parted === null || parted < first) return;
    brush.strokeStyle = ink;
    brush.lineWidth = 1.5;
    brush.beginPath();
    brush.moveTo(x(parted), 0);
    brush.lineTo(x(parted), height - 16);
    brush.stroke();
    brush.fillText("parted", x(parted) + 5, height - 20);
}

function render({ model, el }) {
    el.innerHTML = PAGE(model.get("captions"), model.get("dream"));
    const parts = [".wm-player", ".wm-line", ".wm-again", "select", ".wm-curve", ".wm-wheel", ".wm-wake", "input"];
    const [player, line, again, speed, curve, wheel, wake, heat] = parts.map((name) => el.querySelector(name));
    const canvases = [...el.querySelectorAll("figure canvas")];
    player.setAttribute("aria-label", model.get("label"));
    canvases.forEach((canvas, place) => canvas.setAttribute("aria-label", model.get("captions")[place] || "the game"));
    const pressed = new Set();
    let mode = "ready"; // or driving, paused, over
    let drive = 0, underWay = 0, due = 0, heard = performance.now(), score = "", ending = "";
    let agent = false, overlaps = [];

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

    function paint({ status, over, drive: number, overlap, since, limit, parted }, views) {
        underWay = Math.max(0, underWay - 1);
        heard = performance.now();
        if (number < drive) return; // a late answer about the drive before
        drive = number;
        views.forEach((view, place) => show(canvases[place], view));
        if (curve) {
            overlaps = [...overlaps.slice(0, since), overlap];
            draw(curve, overlaps, limit, parted);
            if (parted !== null) status += ` · parted after ${parted} steps, ${(parted / 50).toFixed(1)} s`;
        }
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

    function take(key) {
        pressed.add(key);
        steerBy(false);
    }

    function steerBy(itself) {
        agent = itself;
        wheel?.setAttribute("aria-pressed", String(agent));
        if (wheel) wheel.textContent = agent ? "take the wheel" : "C drives";
    }

    function press(event) {
        if (event.target !== player || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.code === "Escape") player.blur();
        else if (event.code === "Space") { if (!event.repeat) mode === "driving" ? pause() : play(); }
        else if (event.code in KEYS) { take(KEYS[event.code]); if (mode === "ready") play(); }
        else return;
        event.preventDefault(); // no scrolling
        event.stopPropagation(); // no switching of cells
    }

    player.addEventListener("blur", (event) => { if (!player.contains(event.relatedTarget)) pause(); });
    player.addEventListener("keydown", press);
    player.addEventListener("keyup", (event) => pressed.delete(KEYS[event.code]));
    for (const canvas of canvases) canvas.addEventListener("click", () => { player.focus({ preventScroll: true }); play(); });
    for (const button of el.querySelectorAll("[data-key]")) {
        const release = () => pressed.delete(button.dataset.key);
        button.addEventListener("pointerdown", (event) => {
            event.preventDefault(); // the player keeps the focus
            button.setPointerCapture(event.pointerId);
            player.focus({ preventScroll: true });
            play();
            take(button.dataset.key);
        });
        for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(end, release);
        button.addEventListener("contextmenu", (event) => event.preventDefault()); // a finger that stays is no right click
    }
    again.addEventListener("click", () => {
        drive += 1;
        mode = "ready";
        ask({ again: true });
        player.focus({ preventScroll: true });
        play();
    });
    wheel?.addEventListener("click", () => { steerBy(!agent); player.focus({ preventScroll: true }); play(); });
    wake?.addEventListener("click", () => { ask({ wake: true }); player.focus({ preventScroll: true }); play(); });
    heat?.addEventListener("input", () => {
        heat.nextElementSibling.textContent = Number(heat.value).toFixed(2);
        ask({ temperature: Number(heat.value) });
    });
    model.on("msg:custom", paint);
    ask({});

    const clock = setInterval(() => {
        const now = performance.now(), pace = 1000 / speed.value;
        if (mode === "driving" && underWay < UNDER_WAY && now >= due) {
            due = Math.max(due + pace, now - pace);
            ask({ pressed: [...pressed], agent });
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
