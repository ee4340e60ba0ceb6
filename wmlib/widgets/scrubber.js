// The browser's side of wmlib.widgets.Scrubber: it holds the moment, asks for what is seen then and paints the answers.

import {
    blank,
    bytes,
    clamp,
    element,
    floats,
    isForeign,
    Kernel,
    line,
    number,
    PICTURE,
    paint,
    SIDE,
    SPEEDS,
    STEPS,
    say,
    segment,
    split,
    watch,
} from "./common.js";

const UNDER_WAY = 2; // questions not yet answered; where the reader goes meanwhile is asked as one, the newest
const EDGE = 7; // pixels: half a slider's thumb, so that the cursor stands above it
const [M, C] = ["#d55e00", "#009e73"];

const CANVAS = `<canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>`;
const FIGURE = (name, caption, canvases = CANVAS) => `
    <figure class="wm-${name}"><div>${canvases}</div><figcaption>${caption}</figcaption></figure>`;
const DENSITY = (latents, samples) => `
    <label>M's prediction of latent <select title="the most used latents first">
        ${latents.map((latent) => `<option>${latent}</option>`).join("")}
    </select></label>
    <span>thin: its Gaussians; bold: their sum; ticks: the ${samples} draws, at this temperature</span>`;
const MEMORY = (low, high) => `h: M's memory so far <span>blue ${low}, orange ${high}</span>`;
const PAGE = ({ samples, latents, reach, noun }) => `
    <div class="wm-widget wm-scrubber" role="group" aria-label="scrubber: a ${noun}, moment by moment"
        data-lm-suppress-shortcuts="true">
        <div class="wm-seen">
            ${FIGURE("now", "the frame")}
            ${FIGURE("decoded", "V's picture of it")}
            ${FIGURE("may", "M: what may come next", CANVAS.repeat(samples))}
            ${FIGURE("came", "what came next")}
            ${FIGURE("density", DENSITY(latents, samples))}
            ${FIGURE("memory", MEMORY(number(-reach, 1), number(reach, 1)))}
        </div>
        <div class="wm-bar">
            <label>temperature
                <input class="wm-heat" type="range" min="0.1" max="2" step="0.05" value="1"><output>1.00</output>
            </label>
            <button type="button" class="wm-draw">draw again</button>
        </div>
        <canvas class="wm-curves" role="img"
            aria-label="over the ${noun}: actions, reward and return; a line marks this step"></canvas>
        <input class="wm-time" type="range" min="0" step="1" aria-label="step of the ${noun}">
        <div class="wm-bar">
            <button type="button" class="wm-play">play</button>
            <label>speed <select class="wm-speed">${SPEEDS}</select></label>
            <div class="wm-state" role="status"></div>
        </div>
        <div class="wm-keys">
            arrow keys step, with Shift by ten, Home and End jump, space plays and pauses, Esc leaves
        </div>
    </div>`;

// h: blue below zero, white, orange above.
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

// M's density and what it drew, and dashed what came.
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
    segment(brush, [0, foot], [width, foot], { colour: ink, alpha: 0.6 });
    brush.textAlign = "center";
    brush.fillStyle = ink;
    for (let value = Math.ceil(low); value <= high; value++) {
        segment(brush, [x(value), foot], [x(value), foot + 4], { colour: ink, alpha: 0.6 });
        brush.fillText(number(value, 0), x(value), height - 4);
    }
    const came = x(answer.came[0]);
    const right = came < width / 2;
    segment(brush, [came, 6], [came, foot], { colour: ink, width: 1.5, dash: [5, 4] });
    brush.textAlign = right ? "left" : "right";
    brush.fillText("what came", came + (right ? 6 : -6), 14);
    brush.fillStyle = M;
    for (const value of answer.drawn) brush.fillRect(x(value) - 1, foot - 7, 2, 14);
}

// Actions, reward and return, each below its name and its value at step t.
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
    segment(brush, [x(t), 0], [x(t), height], {
        colour: getComputedStyle(canvas).getPropertyValue("--blue"),
        width: 2,
    });
}

// What each canvas shows, in words.
function captions({ t, latent, temperature, came }, samples) {
    const possible = Array.from(
        { length: samples },
        (_, i) => `possible next frame ${i + 1} of ${samples}, at temperature ${number(temperature)}`,
    );
    const truth = came.length ? number(came[0]) : "nothing";
    return [
        `the frame at step ${t}`,
        "V's picture of it",
        ...possible,
        "the frame that came next",
        `M's density of latent ${latent} of the next frame; what came: ${truth}`,
        "h, M's memory so far",
    ];
}

function render({ model, el }) {
    const looks = model.get("looks");
    const { steps, samples, reach, fps, noun } = looks;
    const kernel = new Kernel(model, hear, UNDER_WAY);
    const curves = split(floats(model.get("curves")), steps);
    const scrubber = element(PAGE(looks));
    el.replaceChildren(scrubber);
    const find = (name) => scrubber.querySelector(name);
    const parts = [".wm-time", ".wm-density select", ".wm-heat", ".wm-speed", ".wm-play", ".wm-state"];
    const [time, picker, heat, speed, play, state] = parts.map(find);
    const canvases = [...scrubber.querySelectorAll(".wm-seen canvas")];
    const timeline = find(".wm-curves");
    let t = looks.first;
    let draw = 0;
    let trouble = "";
    let playing = false;
    let since = 0;
    let shown = null; // the answer on the page
    let densities = null;

    function want() {
        kernel.want(() => ({ t, draw, latent: Number(picker.value), temperature: heat.valueAsNumber }));
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
        trouble = answer.trouble ?? "";
        if (!trouble) show(answer, buffers);
        tell();
    }

    function show(answer, buffers) {
        const [frames, decoded, density, h] = buffers.map(bytes);
        const [frame, came] = split(frames, PICTURE);
        const [own, ...drawn] = split(decoded, PICTURE);
        captions(answer, samples).forEach((name, i) => canvases[i].setAttribute("aria-label", name));
        const pictures = [frame, own, ...Array.from({ length: samples }, (_, i) => drawn[i]), came];
        pictures.forEach((rgb, i) => paint(canvases[i], rgb ?? []));
        [shown, densities] = [answer, new Float32Array(density.buffer)];
        paintDensity(canvases.at(-2), shown, densities, looks);
        paintMemory(canvases.at(-1), new Float32Array(h.buffer), reach);
    }

    scrubber.addEventListener("keydown", (event) => {
        if (isForeign(event)) return;
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
        paintDensity(canvases.at(-2), shown, densities, looks);
        paintCurves(timeline, looks, curves, t);
    };
    go(t);
    const end = watch(scrubber, tell, redraw);
    return () => {
        playing = false;
        end();
        kernel.close();
    };
}

export default { render };
