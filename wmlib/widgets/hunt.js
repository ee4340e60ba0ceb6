// The browser's side of wmlib.widgets.Hunt: it takes clicks and keys and draws what Python tells; the state is there.

import { clamp, floats, Kernel, number, say } from "./common.js";
import { css, RAMP, relief, turned } from "./relief.js";

const PACE = 800; // milliseconds for each of CMA-ES's generations
const FADE = 700; // milliseconds until the landscape is uncovered
const [GREEN, GOLD] = ["#009e73", "#ffd400"];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const around = (corners, radius) =>
    Array.from({ length: corners }, (_, i) =>
        [Math.sin, Math.cos].map((wave, down) => (down ? -1 : 1) * radius(i) * wave((2 * Math.PI * i) / corners)),
    );
const SHAPES = { dot: around(24, () => 6), diamond: around(4, () => 6.5), star: around(10, (i) => (i % 2 ? 6 : 14)) };
const HINT =
    "Click or tap, or move the cross-hair with the arrow keys (with Shift five times as far) and press Enter; Esc leaves.";
const OVER = "again hides the landscape anew, turned or mirrored";

const short = (value) => number(value, 1).replace(/\.0$/, "");
const PAGE = `
    <div class="wm-widget wm-hunt" role="group" aria-label="hunt for the highest point" data-lm-suppress-shortcuts="true">
        <canvas tabindex="0" role="application"></canvas>
        <div class="wm-key">
            <span class="wm-ramp"><output></output><i style="background: linear-gradient(to right, ${RAMP.map((_, i) => css(i / 7))})"></i><output></output></span>
            <span>\u25cf you</span><span><b style="color: ${GREEN}">\u25c6</b> CMA-ES</span><span><b style="color: #c99700">\u2605</b> highest point</span>
        </div>
        <div class="wm-told" role="status"></div>
        <div class="wm-do"><button type="button">show CMA-ES</button><button type="button">again</button></div>
        <div class="wm-hint" role="status"></div>
    </div>`;

function render({ model, el }) {
    el.innerHTML = PAGE;
    const find = (name) => el.querySelector(name);
    const hunt = find(".wm-hunt");
    const canvas = find("canvas");
    const status = find(".wm-told");
    const hint = find(".wm-hint");
    const [show, again] = el.querySelectorAll(".wm-do button");
    const [least, most] = el.querySelectorAll(".wm-ramp output");
    const marks = [...el.querySelectorAll(".wm-key > span:not(.wm-ramp)")];
    const [xLow, xHigh, yLow, yHigh] = model.get("extent");
    const clicks = model.get("clicks");
    const kernel = new Kernel(model);
    let state = model.get("state");
    const pending = []; // clicks not yet answered
    let trouble = "";
    let stage = 0; // CMA-ES's generations on the page
    let timer = 0;
    let since = 0; // when the landscape was uncovered
    let picture = null;
    let ink = "";
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
        if (!kernel.answered(answer)) return;
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
        const best =
            rival &&
            Math.max(
                ...rival
                    .slice(0, stage)
                    .flat()
                    .map(([, , height]) => height),
            );
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
        const dense = window.devicePixelRatio || 1;
        const side = canvas.clientWidth;
        const brush = canvas.getContext("2d");
        canvas.width = canvas.height = Math.max(1, Math.round(side * dense));
        const style = getComputedStyle(hunt);
        const [low, high] = range();
        const shown = state.asked.length > 0;
        const seen = uncovered();
        const fade = seen ? clamp((performance.now() - since) / FADE) : 0;
        ink = style.color;
        [least.textContent, most.textContent] = shown ? [low, high].map(short) : ["lowest", "highest"];
        Object.assign(brush, { font: "600 12px sans-serif", lineJoin: "round", globalAlpha: fade });
        if (seen) brush.drawImage(picture, 0, 0);
        if (fade < 1 && seen) requestAnimationFrame(draw);
        brush.scale(dense, dense);
        const [pen, halo] = fade > 0.5 ? ["white", "black"] : [ink, style.backgroundColor];
        const spot = (point) => place(point).map((to, up) => side * (up ? 1 - to : to));
        const highest = (points) => points.reduce((best, point) => (point[2] > best[2] ? point : best));

        function mark(shape, point, fill, alpha = 1) {
            const [x, y] = spot(point);
            const size = clamp(side / 420, 0.7, 1);
            brush.globalAlpha = alpha;
            brush.beginPath();
            for (const [right, down] of SHAPES[shape]) brush.lineTo(x + size * right, y + size * down);
            brush.closePath();
            rim("black", 4.5);
            rim("white", 2.5);
            brush.fillStyle = fill;
            brush.fill();
        }

        function rim(colour, width) {
            [brush.strokeStyle, brush.lineWidth] = [colour, width];
            brush.stroke();
        }

        const taken = [...state.asked, ...pending].map(spot).map(([x, y]) => [x - 7, y - 7, 14]); // left, top and width of what is written
        // Where it covers no dot and no other number.
        function label(point, away = 11) {
            const [x, y] = spot(point);
            const words = short(point[2]);
            const width = brush.measureText(words).width;
            const middle = x - width / 2;
            const places = [
                [x + away, y - 7],
                [x - away - width, y - 7],
                [middle, y - away - 14],
                [middle, y + away],
            ];
            const free = places.find(
                ([left, top]) =>
                    left > 2 &&
                    left + width < side - 2 &&
                    top > 2 &&
                    top < side - 16 &&
                    taken.every(([a, b, w]) => left > a + w + 2 || left + width + 2 < a || Math.abs(top - b) > 13),
            );
            if (!free) return;
            taken.push([...free, width]);
            [brush.strokeStyle, brush.fillStyle, brush.lineWidth] = [halo, pen, 3];
            brush.strokeText(words, free[0], free[1] + 11.5);
            brush.fillText(words, free[0], free[1] + 11.5);
        }

        const generations = state.rival?.slice(0, stage) ?? [];
        for (const point of pending) mark("dot", point, style.backgroundColor, 0.6);
        for (const point of state.asked) mark("dot", point, css(high > low ? (point[2] - low) / (high - low) : 1));
        generations.forEach((points, i) =>
            points.forEach((point) => mark("diamond", point, GREEN, seen || i === stage - 1 ? 1 : 0.4)),
        );
        brush.globalAlpha = 1;
        if (seen) mark("star", state.top, GOLD);
        if (shown) {
            const best = highest(state.asked);
            const [x, y] = spot(best);
            brush.beginPath();
            brush.arc(x, y, 12, 0, 7);
            rim(halo, 5);
            rim(pen, 2);
            label(best, 17);
            if (stage > 0) label(highest(generations.flat()), seen ? 17 : 11);
            else for (const point of [...state.asked].reverse()) if (point !== best) label(point);
        }
        if (!keys || !open()) return;
        const [x, y] = [aim[0] * side, (1 - aim[1]) * side];
        brush.beginPath();
        for (const [right, up] of Object.values(STEPS)) {
            brush.moveTo(x + 5 * right, y - 5 * up);
            brush.lineTo(x + side * right, y - side * up);
        }
        rim(style.getPropertyValue("--blue"), 1.5);
    }

    hunt.addEventListener("keydown", (event) => {
        const { code, target, shiftKey, repeat } = event;
        if (event.ctrlKey || event.metaKey || event.altKey || code === "Tab") return;
        event.stopPropagation(); // no switching of cells
        const asks = target === canvas && /^(Space|Enter|NumpadEnter)$/.test(code);
        if (code === "Escape") target.blur();
        else if (code in STEPS && target === canvas) {
            aim = aim.map((at, i) => clamp(at + STEPS[code][i] * (shiftKey ? 0.1 : 0.02)));
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
    [
        [show, { reveal: true }],
        [again, { again: true }],
    ].forEach(([button, content]) =>
        button.addEventListener("click", () => {
            kernel.ask(content);
            canvas.focus({ preventScroll: true }); // a disabled button would lose it
        }),
    );
    const size = new ResizeObserver(draw);
    size.observe(canvas);
    model.on("change:state", take);
    model.on("msg:custom", hear);
    if (state.rival) stage = state.rival.length + 1;
    refresh();
    const watch = setInterval(() => {
        tell();
        if (ink !== getComputedStyle(hunt).color) draw(); // another theme
    }, 250);
    return () => {
        clearInterval(watch);
        clearTimeout(timer);
        size.disconnect();
        model.off("change:state", take);
        model.off("msg:custom", hear);
    };
}

export default { render };
