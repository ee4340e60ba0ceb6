// The browser's side of wmlib.widgets.Hunt: it takes clicks and keys and draws what Python tells; the state is there.

import { clamp, element, floats, isForeign, Kernel, say, watch } from "./common.js";
import { drawField, GREEN, short } from "./field.js";
import { css, RAMP, relief, turned } from "./relief.js";

const PACE = 800; // milliseconds for each of CMA-ES's generations
const FADE = 700; // milliseconds until the landscape is uncovered
const DARK_GOLD = "#c99700"; // seen on a light ground too
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const HINT =
    "Click or tap, or move the cross-hair with the arrow keys (with Shift five times as far) and press " +
    "Enter; Esc leaves.";
const OVER = "again hides the landscape anew, turned or mirrored";

const RAINBOW = `linear-gradient(to right, ${RAMP.map((_, i) => css(i / (RAMP.length - 1)))})`;
const PAGE = `
    <div class="wm-widget wm-hunt" role="group" aria-label="hunt for the highest point"
        data-lm-suppress-shortcuts="true">
        <canvas tabindex="0" role="application"></canvas>
        <div class="wm-key">
            <span class="wm-ramp"><output></output><i style="background: ${RAINBOW}"></i><output></output></span>
            <span>\u25cf you</span>
            <span><b style="color: ${GREEN}">\u25c6</b> CMA-ES</span>
            <span><b style="color: ${DARK_GOLD}">\u2605</b> highest point</span>
        </div>
        <div class="wm-told" role="status"></div>
        <div class="wm-do"><button type="button">show CMA-ES</button><button type="button">again</button></div>
        <div class="wm-hint" role="status"></div>
    </div>`;

function render({ model, el }) {
    const hunt = element(PAGE);
    el.replaceChildren(hunt);
    const [canvas, status, hint] = ["canvas", ".wm-told", ".wm-hint"].map((name) => hunt.querySelector(name));
    const [show, again] = hunt.querySelectorAll(".wm-do button");
    const [least, most] = hunt.querySelectorAll(".wm-ramp output");
    const marks = [...hunt.querySelectorAll(".wm-key > span:not(.wm-ramp)")];
    const [xLow, xHigh, yLow, yHigh] = model.get("extent");
    const clicks = model.get("clicks");
    const kernel = new Kernel(model, hear);
    let state = model.get("state");
    const pending = []; // clicks not yet answered
    let trouble = "";
    let stage = 0; // CMA-ES's generations on the page
    let timer = 0;
    let since = 0; // when the landscape was uncovered
    let picture = null;
    let aim = [0.5, 0.5]; // the cross-hair
    let keys = false; // whether it is seen: when the keys move it

    const uncovered = () => state.rival && stage > state.rival.length;
    const open = () => !state.rival && state.asked.length + pending.length < clicks;
    const place = ([x, y]) =>
        turned([clamp((x - xLow) / (xHigh - xLow)), clamp((y - yLow) / (yHigh - yLow))], state.turn);

    function ask() {
        if (!open()) return;
        const [u, v] = turned(aim, state.turn, true);
        pending.push([xLow + u * (xHigh - xLow), yLow + v * (yHigh - yLow)]);
        kernel.ask({ ask: pending.at(-1) });
        refresh();
    }

    // What Python tells now.
    function take() {
        const before = state;
        state = model.get("state");
        if (!state.rival || !before.rival) begin();
        refresh();
    }

    function hear(answer) {
        trouble = answer.trouble ?? "";
        if (answer.ask) pending.shift();
        refresh();
    }

    function begin() {
        clearTimeout(timer);
        [stage, picture] = [0, null];
        if (state.rival) timer = setTimeout(go, PACE);
    }

    // One generation on; after the last the landscape.
    function go() {
        stage += 1;
        if (!uncovered()) timer = setTimeout(go, PACE);
        else since = performance.now();
        refresh();
    }

    // Heights that the colours stand for: those known to the reader, at last the landscape's.
    function range() {
        const known = state.asked.concat(state.rival?.flat() ?? []).map(([, , height]) => height);
        if (!state.rival) return [Math.min(...known), Math.max(...known)];
        const land = floats(model.get("land"));
        const ends = [land.reduce((a, b) => Math.min(a, b)), state.top[2]];
        if (picture?.width !== canvas.width) picture = relief(land, state.turn, ...ends, canvas.width);
        return ends;
    }

    function tell() {
        const silence = kernel.silence;
        const { rival, asked, line } = state;
        const found = rival?.slice(0, stage).flat() ?? [];
        const best = Math.max(...found.map(([, , height]) => height));
        const searching =
            stage === 0
                ? `${asked.length} of ${clicks} clicks used. Now CMA-ES …`
                : `CMA-ES, generation ${stage} of ${rival?.length} · best ${short(best)}`;
        say(status, silence || trouble || (!rival || uncovered() ? line : searching));
        hunt.dataset.mode = silence ? "waiting" : trouble ? "trouble" : "";
    }

    // The last line: what the reader can do, or where the cross-hair is.
    function guide() {
        const [across, up] = aim.map((at) => Math.round(100 * at));
        const words = uncovered() ? OVER : keys ? `cross-hair at ${across} across, ${up} up, of 100; Enter asks` : HINT;
        say(hint, words);
    }

    function refresh() {
        tell();
        guide();
        show.disabled = Boolean(state.rival) || state.asked.length === 0;
        again.disabled = state.asked.length === 0;
        canvas.classList.toggle("wm-over", !open());
        const name = uncovered()
            ? "the landscape, uncovered, with your points and CMA-ES's"
            : "a field that hides a landscape";
        canvas.setAttribute("aria-label", `${name}; ${state.asked.length} of ${clicks} points asked`);
        marks.forEach((mark, i) => {
            mark.style.visibility = [true, stage > 0, uncovered()][i] ? "" : "hidden";
        });
        draw();
    }

    function draw() {
        canvas.width = canvas.height = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
        const [low, high] = range();
        const seen = uncovered();
        const fade = seen ? clamp((performance.now() - since) / FADE) : 0;
        const named = state.asked.length > 0 ? [low, high].map(short) : ["lowest", "highest"];
        [least.textContent, most.textContent] = named;
        drawField(canvas, {
            asked: state.asked,
            pending,
            generations: state.rival?.slice(0, stage) ?? [],
            top: seen ? state.top : null,
            picture: seen ? picture : null,
            fade,
            share: (height) => (high > low ? (height - low) / (high - low) : 1),
            place,
            aim: keys && open() ? aim : null,
        });
        if (seen && fade < 1) requestAnimationFrame(draw);
    }

    hunt.addEventListener("keydown", (event) => {
        const { code, target, shiftKey, repeat } = event;
        if (isForeign(event)) return;
        event.stopPropagation(); // no switching of cells
        const asks = target === canvas && /^(Space|Enter|NumpadEnter)$/.test(code);
        if (code === "Escape") target.blur();
        else if (code in ARROWS && target === canvas) {
            aim = aim.map((at, i) => clamp(at + ARROWS[code][i] * (shiftKey ? 0.1 : 0.02)));
            keys = true;
            refresh();
        } else if (asks && !repeat && !shiftKey) ask();
        if (asks || /^(Arrow|Page|Home|End)/.test(code)) event.preventDefault(); // no scrolling
    });
    canvas.addEventListener("click", ({ clientX, clientY }) => {
        const { left, top, width, height } = canvas.getBoundingClientRect();
        canvas.focus({ preventScroll: true });
        [aim, keys] = [[clamp((clientX - left) / width), clamp(1 - (clientY - top) / height)], false];
        ask();
    });
    for (const way of ["focus", "blur"])
        canvas.addEventListener(way, () => {
            keys = canvas.matches(":focus-visible");
            refresh();
        });
    function order(content) {
        kernel.ask(content);
        canvas.focus({ preventScroll: true }); // a disabled button would lose it
    }
    show.addEventListener("click", () => order({ reveal: true }));
    again.addEventListener("click", () => order({ again: true }));
    model.on("change:state", take);
    if (state.rival) stage = state.rival.length + 1;
    refresh();
    const end = watch(canvas, tell, draw);
    return () => {
        end();
        clearTimeout(timer);
        model.off("change:state", take);
        kernel.close();
    };
}

export default { render };
