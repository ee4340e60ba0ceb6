// What the widgets' scripts share: pixels, numbers, elements, keys, and the way to the kernel and back.

export const SIDE = 64; // height and width of a frame
export const PICTURE = SIDE * SIDE * 3; // its bytes
const PATIENCE = 3000; // milliseconds without an answer after which a widget says so
const WAITING = "waiting for the kernel: it is busy, or was restarted (then run this cell again)";
const LOOK = 250; // milliseconds between two looks at how things stand

// What each key adds to a slider, in its steps; Home and End reach any end.
export const STEPS = {
    ArrowRight: 1,
    ArrowUp: 1,
    ArrowLeft: -1,
    ArrowDown: -1,
    PageUp: 10,
    PageDown: -10,
    Home: -1e6,
    End: 1e6,
};
// Options of a select: shares of full speed.
export const SPEEDS = `
    <option value="1">full</option>
    <option value="0.5">half</option>
    <option value="0.25">a quarter</option>`;

export const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));

// A number with a real minus sign, and none before a zero.
export const number = (value, digits = 2) =>
    value
        .toFixed(digits)
        .replace(/^-(0\.?0*)$/, "$1")
        .replace("-", "\u2212");

export function element(page) {
    const holder = document.createElement("template");
    holder.innerHTML = page.trim();
    return holder.content.firstChild;
}

// The bytes behind a buffer of a message or a trait, as a copy of their own.
export const bytes = (view) => new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
export const floats = (view) => new Float32Array(bytes(view).buffer);

// An array as rows of so many entries.
export const split = (all, size) =>
    Array.from({ length: all.length / size }, (_, i) => all.subarray(i * size, (i + 1) * size));

// Write RGB bytes on a canvas of as many pixels.
export function paint(canvas, rgb) {
    const brush = canvas.getContext("2d");
    const image = brush.createImageData(SIDE, SIDE);
    for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
        for (let colour = 0; colour < 3; colour++) image.data[to + colour] = rgb[from + colour];
        image.data[to + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
}

// An empty canvas with as many pixels as the screen has, drawn on in CSS pixels, in the page's ink.
export function blank(canvas) {
    const { clientWidth: width, clientHeight: height } = canvas;
    const dense = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * dense));
    canvas.height = Math.max(1, Math.round(height * dense));
    const brush = canvas.getContext("2d");
    const ink = getComputedStyle(canvas).color;
    brush.scale(dense, dense);
    brush.font = "12px sans-serif";
    brush.fillStyle = brush.strokeStyle = ink;
    return { brush, ink, width, height, dense };
}

// A line through points.
export function line(brush, points, { colour, width = 1, dash = [], alpha = 1, fill = 0 }) {
    Object.assign(brush, { strokeStyle: colour, fillStyle: colour, lineWidth: width, lineJoin: "round" });
    brush.setLineDash(dash);
    brush.beginPath();
    for (const [x, y] of points) brush.lineTo(x, y);
    brush.globalAlpha = fill;
    if (fill) brush.fill();
    brush.globalAlpha = alpha;
    brush.stroke();
    brush.setLineDash([]);
    brush.globalAlpha = 1;
}

export const segment = (brush, from, to, look) => line(brush, [from, to], look);

// Set a text only where it changes: nothing is laid out, or read aloud, twice.
export function say(place, words) {
    if (place.textContent !== words) place.textContent = words;
}

// Whether a key is the browser's or the page's, not a widget's.
export const isForeign = ({ ctrlKey, metaKey, altKey, code }) => ctrlKey || metaKey || altKey || code === "Tab";

// Tell how things stand, again and again; draw anew in another size, or in another theme's ink. Returns what ends it.
export function watch(place, tell, redraw = () => {}) {
    let ink = getComputedStyle(place).color;
    const size = new ResizeObserver(redraw);
    size.observe(place);
    const clock = setInterval(() => {
        tell();
        const { color } = getComputedStyle(place);
        if (color !== ink) redraw();
        ink = color;
    }, LOOK);
    return () => {
        clearInterval(clock);
        size.disconnect();
    };
}

// Questions to the kernel and its answers, which go to `hear`. One widget can stand on a page twice: `view` says whose
// question it was; an answer without one is for all.
export class Kernel {
    constructor(model, hear, most = Infinity) {
        this.model = model;
        this.hear = hear;
        this.most = most; // questions under way before `want` waits
        this.view = Math.random();
        this.underWay = 0; // questions not yet answered
        this.heard = 0; // when the last answer came, or the first question went
        this.wanted = null; // a function that gives the next question
        model.on("msg:custom", this.receive);
    }

    ask(content) {
        if (this.underWay === 0) this.heard = performance.now();
        this.underWay += 1;
        try {
            this.model.send({ view: this.view, ...content });
        } catch {} // no kernel any more: `silence` tells, since no answer comes
    }

    // Ask as soon as it is its turn; what changes meanwhile is asked as one question, with the newest values.
    want(question) {
        this.wanted = question;
        this.next();
    }

    next() {
        if (!this.wanted || !this.isFree) return;
        const question = this.wanted;
        this.wanted = null;
        this.ask(question());
    }

    receive = (answer, buffers) => {
        if (answer.view !== undefined && answer.view !== this.view) return;
        this.underWay = Math.max(0, this.underWay - 1);
        this.heard = performance.now();
        this.hear(answer, buffers);
        this.next();
    };

    get isFree() {
        return this.underWay < this.most;
    }

    // What to say while no answer comes; empty while all is well.
    get silence() {
        return this.underWay > 0 && performance.now() - this.heard > PATIENCE ? WAITING : "";
    }

    close() {
        this.model.off("msg:custom", this.receive);
    }
}
