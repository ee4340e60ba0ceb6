// The browser's side of wmlib.widgets' Player and DreamPlayer: it reads keys and buttons, asks for steps and paints
// the answers. What can be done, by which keys and how often, is the task's.

import { blank, bytes, element, Kernel, line, paint, SIDE, SPEEDS, say, segment, watch } from "./common.js";

const UNDER_WAY = 3; // steps asked for and not yet answered: the way to the kernel and back then costs no step
const SECONDS = 4; // of agreement that the curve under a dream shows
const PINK = "#cc79a7"; // a dream's

const does = (verb) => `${verb.replace(/([sxzo]|[cs]h)$/, "$1e")}s`; // drive: drives, push: pushes
const VIEW = (caption) => `
    <figure>
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
        ${caption && `<figcaption>${caption}</figcaption>`}
    </figure>`;
const CURVE = (landmark) => `
    <canvas class="wm-curve" height="72" role="img"
        aria-label="how far the ${landmark}s of dream and reality overlap, step by step"></canvas>`;
const DREAM = (verb) => `
    <div class="wm-dream">
        <button type="button" class="wm-agent" aria-pressed="false">C ${does(verb)}</button>
        <button type="button" class="wm-wake">wake up</button>
        <label>temperature
            <input type="range" min="0.1" max="2" step="0.05" value="1">
            <output>1.00</output>
        </label>
    </div>`;
const BUTTON = ({ name, label, spoken }) =>
    `<button type="button" data-key="${name}" aria-label="${spoken}">${label}</button>`;
const PAGE = (captions, dream, { buttons, help, landmark, verb }) => `
    <div class="wm-player${dream ? " wm-dreaming" : ""}" tabindex="0" role="application"
        data-lm-suppress-shortcuts="true">
        <div class="wm-views">${captions.map(VIEW).join("")}</div>
        ${dream && landmark ? CURVE(landmark) : ""}
        ${dream ? DREAM(verb) : ""}
        <div class="wm-line" role="status"></div>
        <div class="wm-buttons">${buttons.map(BUTTON).join("")}</div>
        <button type="button" class="wm-again">start again</button>
        <label>speed <select>${SPEEDS}</select></label>
        <div class="wm-keys">${help}, space pauses, Esc leaves</div>
    </div>`;

// The overlap of the last seconds, from 0 at the bottom to 1; dashed, where dream and reality count as parted.
function draw(curve, overlaps, { limit, parted }, { fps, landmark }) {
    const { brush, ink, width, height } = blank(curve);
    const shown = SECONDS * fps;
    const first = Math.max(0, overlaps.length - shown);
    const foot = height - 16;
    const x = (step) => 4 + ((step - first) / shown) * (width - 8);
    const y = (overlap) => foot - overlap * (height - 20);
    segment(brush, [0, y(limit)], [width, y(limit)], { colour: ink, dash: [4, 4], alpha: 0.5 });
    brush.fillText(`the ${landmark}s' overlap, last four seconds`, 4, height - 3);
    brush.textAlign = "right";
    brush.fillText("usable above", width - 4, y(limit) - 4);
    brush.textAlign = "left";
    const points = overlaps.map((overlap, step) => [x(step), y(overlap)]).slice(first);
    line(brush, points, { colour: PINK, width: 2.5 });
    if (parted === null || parted < first) return;
    segment(brush, [x(parted), 0], [x(parted), foot], { colour: ink, width: 1.5 });
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
    const parts = [".wm-line", ".wm-again", "select", ".wm-curve", ".wm-agent", ".wm-wake", "input"];
    const [status, again, speed, curve, lead, wake, heat] = parts.map((name) => player.querySelector(name));
    const canvases = [...player.querySelectorAll("figure canvas")];
    player.setAttribute("aria-label", model.get("label"));
    canvases.forEach((canvas, place) => canvas.setAttribute("aria-label", captions[place] || "the game"));
    const kernel = new Kernel(model, hear, UNDER_WAY);
    const pressed = new Set();
    let mode = "ready"; // or playing, paused, over
    let episode = 0; // its number
    let due = 0;
    let score = "";
    let ending = "";
    let agent = false; // whether C chooses the actions
    let overlaps = [];

    function tell() {
        const states = { ready: `click the picture to ${task.verb}`, playing: "", paused: "paused", over: ending };
        const state = kernel.silence || states[mode];
        say(status, [score, state].filter((part) => part).join(" · "));
        player.dataset.mode = kernel.silence ? "waiting" : mode;
    }

    function hear(answer, views) {
        if (answer.episode < episode) return; // late, about the one before
        episode = answer.episode;
        views.forEach((view, place) => paint(canvases[place], bytes(view)));
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
        if (mode !== "over") mode = "playing";
        tell();
    }

    function pause() {
        if (mode === "playing") mode = "paused";
        pressed.clear();
        tell();
    }

    function take(key) {
        pressed.add(key);
        handOver(false);
    }

    function handOver(toAgent) {
        agent = toAgent;
        lead?.setAttribute("aria-pressed", String(agent));
        if (lead) say(lead, agent ? "take over" : `C ${does(task.verb)}`);
    }

    function press(event) {
        if (event.target !== player || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.code === "Escape") player.blur();
        else if (event.code === "Space") {
            if (!event.repeat) mode === "playing" ? pause() : play();
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
    lead?.addEventListener("click", () => {
        handOver(!agent);
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
    kernel.ask({});

    const clock = setInterval(() => {
        const now = performance.now();
        const pace = 1000 / task.fps / speed.value;
        if (mode === "playing" && kernel.isFree && now >= due) {
            due = Math.max(due + pace, now - pace);
            kernel.ask({ pressed: [...pressed], agent });
        }
    }, 2);
    const end = watch(player, tell);
    return () => {
        clearInterval(clock);
        end();
        kernel.close();
    };
}

export default { render };
