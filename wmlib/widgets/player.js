// The browser's side of wmlib.widgets' Player and DreamPlayer: it reads keys and buttons, asks for steps and paints
// the answers. What can be done, by which keys and how often, is the task's.

import { element, Kernel, paint, SIDE, say } from "./common.js";

const UNDER_WAY = 3; // steps asked for and not yet answered: the way to the kernel and back then costs no step
const SECONDS = 4; // of agreement that the curve under a dream shows

const VIEW = (caption) => `
    <figure>
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
        ${caption && `<figcaption>${caption}</figcaption>`}
    </figure>`;
const CURVE = (landmark) => `
    <canvas class="wm-curve" height="72" role="img"
        aria-label="how far the ${landmark}s of dream and reality overlap, step by step"></canvas>`;
const DREAM = `
    <div class="wm-dream">
        <button type="button" class="wm-wheel" aria-pressed="false">C drives</button>
        <button type="button" class="wm-wake">wake up</button>
        <label>temperature
            <input type="range" min="0.1" max="2" step="0.05" value="1">
            <output>1.00</output>
        </label>
    </div>`;
const BUTTON = ({ name, label, spoken }) =>
    `<button type="button" data-key="${name}" aria-label="${spoken}">${label}</button>`;
const PAGE = (captions, dream, { buttons, fps, help, landmark }) => `
    <div class="wm-player${dream ? " wm-dreaming" : ""}" tabindex="0" role="application"
        data-lm-suppress-shortcuts="true">
        <div class="wm-views">${captions.map(VIEW).join("")}</div>
        ${dream && landmark ? CURVE(landmark) : ""}
        ${dream ? DREAM : ""}
        <div class="wm-line" role="status"></div>
        <div class="wm-buttons">${buttons.map(BUTTON).join("")}</div>
        <button type="button" class="wm-again">start again</button>
        <label>speed
            <select>
                <option value="${fps}">full</option>
                <option value="${Math.floor(fps / 2)}">half</option>
                <option value="${Math.floor(fps / 4)}">a quarter</option>
            </select>
        </label>
        <div class="wm-keys">${help}, space pauses, Esc leaves</div>
    </div>`;

// The overlap of the last seconds, from 0 at the bottom to 1; dashed, where dream and reality count as parted.
function draw(curve, overlaps, { limit, parted }, { fps, landmark }) {
    const ink = getComputedStyle(curve).color;
    const brush = curve.getContext("2d");
    curve.width = Math.max(1, curve.clientWidth);
    const { width, height } = curve;
    const shown = SECONDS * fps;
    const first = Math.max(0, overlaps.length - shown);
    const x = (step) => 4 + ((step - first) / shown) * (width - 8);
    const y = (overlap) => height - 16 - overlap * (height - 20);
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
    brush.fillText(`the ${landmark}s' overlap, last four seconds`, 4, height - 3);
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

// Hold a button to keep its key pressed; several fingers may hold several buttons.
function holdable(button, press, release) {
    button.addEventListener("pointerdown", (event) => {
        event.preventDefault(); // the player keeps the focus
        button.setPointerCapture(event.pointerId);
        press(button.dataset.key);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
        button.addEventListener(end, () => release(button.dataset.key));
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a finger that stays is no right click
}

function render({ model, el }) {
    const task = model.get("controls");
    const captions = model.get("captions");
    const keys = Object.fromEntries(task.buttons.flatMap(({ name, keys }) => keys.map((code) => [code, name])));
    const player = element(PAGE(captions, model.get("dream"), task));
    el.replaceChildren(player);
    const parts = [".wm-line", ".wm-again", "select", ".wm-curve", ".wm-wheel", ".wm-wake", "input"];
    const [status, again, speed, curve, wheel, wake, heat] = parts.map((name) => player.querySelector(name));
    const canvases = [...player.querySelectorAll("figure canvas")];
    player.setAttribute("aria-label", model.get("label"));
    canvases.forEach((canvas, place) => canvas.setAttribute("aria-label", captions[place] || "the game"));
    const kernel = new Kernel(model);
    const pressed = new Set();
    let mode = "ready"; // or driving, paused, over
    let episode = 0; // its number, so that late answers about the one before are known
    let due = 0;
    let score = "";
    let ending = "";
    let agent = false; // whether C chooses the actions
    let overlaps = [];

    function tell() {
        const states = { ready: `click the picture to ${task.verb}`, driving: "", paused: "paused", over: ending };
        const state = kernel.silence || states[mode];
        say(status, [score, state].filter((part) => part).join(" · "));
        player.dataset.mode = kernel.silence ? "waiting" : mode;
    }

    function hear(answer, views) {
        if (!kernel.answered(answer) || answer.episode < episode) return;
        episode = answer.episode;
        views.forEach((view, place) =>
            paint(canvases[place], new Uint8Array(view.buffer, view.byteOffset, view.byteLength)),
        );
        score = answer.status;
        if (curve) {
            overlaps = [...overlaps.slice(0, answer.since), answer.overlap];
            draw(curve, overlaps, answer, task);
            const { parted } = answer;
            if (parted !== null) score += ` · parted after ${parted} steps, ${(parted / task.fps).toFixed(1)} s`;
        }
        ending = answer.over;
        if (ending) mode = "over";
        tell();
    }

    function play() {
        player.focus({ preventScroll: true });
        if (mode !== "over") mode = "driving";
        tell();
    }

    function pause() {
        if (mode === "driving") mode = "paused";
        pressed.clear();
        tell();
    }

    function take(key) {
        pressed.add(key);
        giveWheel(false);
    }

    function giveWheel(toAgent) {
        agent = toAgent;
        wheel?.setAttribute("aria-pressed", String(agent));
        if (wheel) say(wheel, agent ? "take the wheel" : "C drives");
    }

    function press(event) {
        if (event.target !== player || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.code === "Escape") player.blur();
        else if (event.code === "Space") {
            if (!event.repeat) mode === "driving" ? pause() : play();
        } else if (event.code in keys) {
            take(keys[event.code]);
            if (mode === "ready") play();
        } else return;
        event.preventDefault(); // no scrolling
        event.stopPropagation(); // no switching of cells
    }

    player.addEventListener("blur", (event) => {
        if (!player.contains(event.relatedTarget)) pause();
    });
    player.addEventListener("keydown", press);
    player.addEventListener("keyup", (event) => pressed.delete(keys[event.code]));
    for (const canvas of canvases) canvas.addEventListener("click", play);
    for (const button of player.querySelectorAll("[data-key]")) {
        const hold = (key) => {
            play();
            take(key);
        };
        holdable(button, hold, (key) => pressed.delete(key));
    }
    again.addEventListener("click", () => {
        episode += 1;
        mode = "ready";
        kernel.ask({ again: true });
        play();
    });
    wheel?.addEventListener("click", () => {
        giveWheel(!agent);
        play();
    });
    wake?.addEventListener("click", () => {
        kernel.ask({ wake: true });
        play();
    });
    heat?.addEventListener("input", () => {
        say(heat.nextElementSibling, Number(heat.value).toFixed(2));
        kernel.ask({ temperature: Number(heat.value) });
    });
    model.on("msg:custom", hear);
    kernel.ask({});

    const clock = setInterval(() => {
        const now = performance.now();
        const pace = 1000 / speed.value;
        if (mode === "driving" && kernel.underWay < UNDER_WAY && now >= due) {
            due = Math.max(due + pace, now - pace);
            kernel.ask({ pressed: [...pressed], agent });
        }
    }, 2);
    const watch = setInterval(tell, 250);
    return () => {
        clearInterval(clock);
        clearInterval(watch);
        model.off("msg:custom", hear);
    };
}

export default { render };
