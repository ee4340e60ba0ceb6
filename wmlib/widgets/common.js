// What the widgets' scripts share: pixels, numbers, elements, and the way to the kernel and back.

export const SIDE = 64; // height and width of a frame
export const PICTURE = SIDE * SIDE * 3; // its bytes
const PATIENCE = 3000; // milliseconds without an answer after which a widget says so
const WAITING = "waiting for the kernel: it is busy, or was restarted (then run this cell again)";

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

// Set a text only where it changes: nothing is laid out, or read aloud, twice.
export function say(place, words) {
    if (place.textContent !== words) place.textContent = words;
}

// Questions to the kernel. One widget can stand on a page twice: `view` says whose question it was.
export class Kernel {
    constructor(model) {
        this.model = model;
        this.view = Math.random();
        this.underWay = 0; // questions not yet answered
        this.heard = 0; // when the last answer came, or the first question went
    }

    ask(content) {
        if (this.underWay === 0) this.heard = performance.now();
        this.underWay += 1;
        try {
            this.model.send({ view: this.view, ...content });
        } catch {} // no kernel any more: `silence` tells, since no answer comes
    }

    // Note an answer; false for one to another view's question.
    answered(answer) {
        if (answer.view !== undefined && answer.view !== this.view) return false;
        this.underWay = Math.max(0, this.underWay - 1);
        this.heard = performance.now();
        return true;
    }

    // What to say while no answer comes; empty while all is well.
    get silence() {
        return this.underWay > 0 && performance.now() - this.heard > PATIENCE ? WAITING : "";
    }
}
