// The browser's side of wmlib.widgets.Scrubber: it holds the moment, asks for what is seen then and paints the answers.

import { blank, bytes, clamp, floats, Kernel, line, number, PICTURE, paint, SIDE, say } from "./common.js";

const UNDER_WAY = 2; // questions not yet answered; where the reader goes meanwhile is asked as one, the newest
const EDGE = 7; // pixels: half a slider's thumb, so that the cursor stands above it
const STEPS = {
    ArrowRight: 1,
    ArrowUp: 1,
    ArrowLeft: -1,
    ArrowDown: -1,
    PageUp: 10,
    PageDown: -10,
    Home: -Infinity,
    End: Infinity,
};
const [M, C] = ["#d55e00", "#009e73"];

const CANVAS = `<canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>`;
const FIGURE = (name, caption, canvases = CANVAS) => `
    <figure class="wm-${name}"><div>${canvases}</div><figcaption>${caption}</figcaption></figure>`;
const PAGE = ({ samples, latents, reach, noun }) => `
    <div class="wm-widget wm-scrubber" role="group" aria-label="scrubber: a ${noun}, moment by moment" data-lm-suppress-shortcuts="true">
        <div class="wm-seen">
            ${FIGURE("now", "the frame")}
            ${FIGURE("decoded", "V's picture of it")}
            ${FIGURE("may", "M: what may come next", CANVAS.repeat(samples))}
            ${FIGURE("came", "what came next")}
            ${FIGURE(
                "density",
                `<label>M's prediction of latent <select title="the most used latents first">
                ${latents.map((latent) => `<option>${latent}</option>`).join("")}</select></label>
                <span>thin: its Gaussians; bold: their sum; ticks: the ${samples} draws, at this temperature</span>`,
            )}
            ${FIGURE("memory", `h: M's memory so far <span>blue ${number(-reach, 1)}, orange ${number(reach, 1)}</span>`)}
        </div>
        <div class="wm-bar">
            <label>temperature <input class="wm-heat" type="range" min="0.1" max="2" step="0.05" value="1"><output>1.00</output></label>
            <button type="button" class="wm-draw">draw again</button>
        </div>
        <canvas class="wm-curves" role="img" aria-label="over the ${noun}: actions, reward and return; a line marks this step"></canvas>
        <input class="wm-time" type="range" min="0" step="1" aria-label="step of the ${noun}">
        <div class="wm-bar">
            <button type="button" class="wm-play">play</button>
            <label>speed <select class="wm-speed">
                <option value="1">full</option><option value="0.5">half</option><option value="0.25">a quarter</option>
            </select></label>
            <div class="wm-state" role="status"></div>
        </div>
        <div class="wm-keys">arrow keys step, with Shift by ten, Home and End jump, space plays and pauses, Esc leaves</div>
    </div>`;

// Blue below zero, white, orange above.
function paintMemory(canvas, h, reach) {
    const side = Math.ceil(Math.sqrt(h.length));
    canvas.width = side;
    canvas.height = side;
    const brush = canvas.getContext("2d");
    const image = brush.createImageData(side, side);
    h.forEach((value, unit) => {
        const far = Math.min(1, Math.abs(value) / reach);
        const end = value < 0 ? [0, 114, 178] : [213, 94, 0];
        image.data.set([...end.map((colour) => 255 + far * (colour - 255)), 255], 4 * unit);
    });
    brush.putImageData(image, 0, 0);
}

// What came: dashed.
function paintDensity(canvas, answer, densities, { points: places, noun }) {
    const { brush, ink, width, height } = blank(canvas);
    const foot = height - 24;
    if (!answer?.came.length) return brush.fillText(answer ? `nothing came next: the ${noun} ends here` : "", 8, 20);
    const [low, high] = answer.axis;
    const top = Math.max(...densities);
    const last = densities.length - places;
    const x = (value) => 8 + ((clamp(value, low, high) - low) / (high - low)) * (width - 16);
    for (let from = 0; from <= last; from += places) {
        const place = (value, i) => [8 + (i / (places - 1)) * (width - 16), foot - (value / top) * (foot - 22)];
        const points = Array.from(densities.subarray(from, from + places), place);
        line(brush, points, from === last ? { colour: M, width: 2.5 } : { colour: M, alpha: 0.7, fill: 0.15 });
    }
    line(
        brush,
        [
            [0, foot],
            [width, foot],
        ],
        { colour: ink, alpha: 0.6 },
    );
    brush.textAlign = "center";
    brush.fillStyle = ink;
    for (let value = Math.ceil(low); value <= high; value++) {
        line(
            brush,
            [
                [x(value), foot],
                [x(value), foot + 4],
            ],
            { colour: ink, alpha: 0.6 },
        );
        brush.fillText(number(value, 0), x(value), height - 4);
    }
    const came = x(answer.came[0]);
    const right = came < width / 2;
    line(
        brush,
        [
            [came, 6],
            [came, foot],
        ],
        { colour: ink, width: 1.5, dash: [5, 4] },
    );
    brush.textAlign = right ? "left" : "right";
    brush.fillText("what came", came + (right ? 6 : -6), 14);
    brush.fillStyle = M;
    for (const value of answer.drawn) brush.fillRect(x(value) - 1, foot - 7, 2, 14);
}

// Each below its name and its value at step t.
function paintCurves(canvas, { steps, actions }, curves, t) {
    const { brush, ink, width, height } = blank(canvas);
    const [reward, sum] = curves.slice(-2);
    const x = (step) => EDGE + (step / steps) * (width - 2 * EDGE);
    const band = height / (actions.length + 2);
    const at = (values, digits) => number(values[Math.min(t, steps - 1)], digits);
    const draw = (values, top, foot, look, low = Math.min(0, ...values), high = Math.max(...values)) => {
        const y = (value) => foot - 2 - ((value - low) / (high - low || 1)) * (foot - top - 18);
        const points = Array.from(values, (value, step) => [x(step), y(value)]);
        const zero = y(clamp(0, low, high));
        line(brush, look.fill ? [[EDGE, zero], ...points, [x(steps), zero]] : points, look);
    };
    const top = actions.length * band;
    brush.fillText(`return ${at(sum, 0)} (bold), reward ${at(reward, 1)}`, EDGE, top + 12);
    draw(reward, top, height, { colour: ink, fill: 0.15, alpha: 0.4 });
    draw(sum, top, height, { colour: ink, width: 2 });
    actions.forEach(([name, low, high], i) => {
        draw(curves[i], i * band, (i + 1) * band, { colour: C, fill: 0.3 }, low, high);
        brush.fillText(`${name} ${at(curves[i], 2)}`, EDGE, i * band + 12);
    });
    line(
        brush,
        [
            [x(t), 0],
            [x(t), height],
        ],
        { colour: getComputedStyle(canvas).getPropertyValue("--blue"), width: 2 },
    );
}

function render({ model, el }) {
    const looks = model.get("looks");
    const { steps, samples, reach, fps, noun } = looks;
    const kernel = new Kernel(model);
    const all = floats(model.get("curves"));
    const curves = Array.from({ length: all.length / steps }, (_, i) => all.subarray(i * steps, (i + 1) * steps));
    el.innerHTML = PAGE(looks);
    const find = (name) => el.querySelector(name);
    const scrubber = find(".wm-scrubber");
    const [time, picker, heat, speed, play, state] = [
        ".wm-time",
        ".wm-density select",
        ".wm-heat",
        ".wm-speed",
        ".wm-play",
        ".wm-state",
    ].map(find);
    const canvases = [...el.querySelectorAll(".wm-seen canvas")];
    const timeline = find(".wm-curves");
    let t = looks.first;
    let draw = 0;
    let wanted = true;
    let trouble = "";
    let playing = false;
    let since = 0;
    let shown = null; // the answer on the page
    let densities = null;
    let ink = "";

    // Ask for what is wanted by now, if it is its turn.
    function next() {
        if (!wanted || kernel.underWay >= UNDER_WAY) return;
        wanted = false;
        kernel.ask({ t, draw, latent: Number(picker.value), temperature: heat.valueAsNumber });
    }

    function want() {
        wanted = true;
        next();
        tell();
    }

    function go(step) {
        t = clamp(step, 0, steps);
        time.value = t;
        time.setAttribute("aria-valuetext", `step ${t} of ${steps}`);
        paintCurves(timeline, looks, curves, t);
        if (t === steps) playing = false;
        want();
    }

    function tell() {
        const silence = kernel.silence;
        if (silence) playing = false;
        const end = t === steps ? `, the ${noun} ends here` : "";
        const place = `${playing ? "playing" : "paused"} · step ${t} of ${steps}, ${number(t / fps)} s${end}`;
        say(state, silence || trouble || place);
        scrubber.dataset.mode = silence ? "waiting" : trouble ? "trouble" : "";
        say(play, playing ? "pause" : "play");
    }

    function toggle() {
        playing = !playing;
        if (playing && t === steps) go(0);
        since = performance.now();
        if (playing) requestAnimationFrame(run);
        tell();
    }

    function run(now) {
        if (!playing || !scrubber.isConnected) return;
        const pace = 1000 / fps / speed.value;
        const due = Math.floor((now - since) / pace);
        since = due > fps ? now : since + Math.max(0, due) * pace; // after a page out of sight no leap
        if (due > 0) go(t + (due > fps ? 1 : due));
        requestAnimationFrame(run);
    }

    function hear(answer, buffers) {
        if (!kernel.answered(answer)) return;
        trouble = answer.trouble ?? "";
        if (!trouble) show(answer, buffers);
        next();
        tell();
    }

    function show(answer, buffers) {
        const parts = buffers.map(bytes);
        const [[frame, came], [decoded, ...drawn]] = parts.map((part) =>
            Array.from({ length: samples + 1 }, (_, i) => part.subarray(i * PICTURE, (i + 1) * PICTURE)),
        );
        const possible = drawn.map(
            (_, i) => `possible next frame ${i + 1} of ${samples}, at temperature ${number(answer.temperature)}`,
        );
        const names = [
            `the frame at step ${answer.t}`,
            "V's picture of it",
            ...possible,
            "the frame that came next",
            `M's density of latent ${answer.latent} of the next frame; what came: ${answer.came.map((z) => number(z))[0] ?? "nothing"}`,
            "h, M's memory so far",
        ];
        names.forEach((name, i) => canvases[i].setAttribute("aria-label", name));
        [frame, decoded, ...drawn, came].forEach((rgb, i) => paint(canvases[i], rgb));
        [shown, densities] = [answer, new Float32Array(parts[2].buffer)];
        paintDensity(canvases.at(-2), shown, densities, looks);
        paintMemory(canvases.at(-1), new Float32Array(parts[3].buffer), reach);
    }

    scrubber.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || event.code === "Tab") return;
        event.stopPropagation(); // no switching of cells
        const { target, code } = event;
        const own = target === heat || target.tagName === "SELECT";
        if (code === "Escape") target.blur();
        else if (code === "Space" && target.tagName === "INPUT") {
            if (!event.repeat) toggle();
        } else if (code in STEPS && !own) go(t + STEPS[code] * (event.shiftKey ? 10 : 1));
        else return;
        event.preventDefault(); // no scrolling; the same steps in every browser
    });
    const hold = () => time.focus({ preventScroll: true });
    const follow = (event) => {
        if (!event.buttons) return;
        hold();
        const { left, width } = timeline.getBoundingClientRect();
        go(Math.round(((event.clientX - left - EDGE) / (width - 2 * EDGE)) * steps));
    };
    timeline.addEventListener("pointerdown", (event) => {
        event.preventDefault(); // the slider keeps the focus
        timeline.setPointerCapture(event.pointerId);
        follow(event);
    });
    timeline.addEventListener("pointermove", follow);
    canvases.forEach((canvas) => canvas.addEventListener("click", hold));
    time.max = steps;
    time.addEventListener("input", () => go(time.valueAsNumber));
    picker.addEventListener("change", want);
    heat.addEventListener("input", () => {
        heat.nextElementSibling.textContent = number(heat.valueAsNumber);
        want();
    });
    find(".wm-draw").addEventListener("click", () => {
        draw += 1;
        want();
    });
    play.addEventListener("click", toggle);
    const redraw = () => {
        ink = getComputedStyle(scrubber).color;
        paintDensity(canvases.at(-2), shown, densities, looks);
        paintCurves(timeline, looks, curves, t);
    };
    const size = new ResizeObserver(redraw);
    size.observe(scrubber);
    model.on("msg:custom", hear);
    go(t);
    const watch = setInterval(() => {
        tell();
        if (ink !== getComputedStyle(scrubber).color) redraw(); // another theme
    }, 250);
    return () => {
        playing = false;
        clearInterval(watch);
        size.disconnect();
        model.off("msg:custom", hear);
    };
}

export default { render };
