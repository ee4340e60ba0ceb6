// What a hunt's canvas shows: the landscape once it is uncovered, points with their heights, and the cross-hair.

import { clamp, number } from "./common.js";
import { css } from "./relief.js";

export const GREEN = "#009e73";
const GOLD = "#ffd400";
const NEAR = 11; // pixels from a point to its number,
const FAR = 17; // and where a ring or a star is around the point
const around = (corners, radius) =>
    Array.from({ length: corners }, (_, i) =>
        [Math.sin, Math.cos].map((wave, down) => (down ? -1 : 1) * radius(i) * wave((2 * Math.PI * i) / corners)),
    );
const SHAPES = { dot: around(24, () => 6), diamond: around(4, () => 6.5), star: around(10, (i) => (i % 2 ? 6 : 14)) };

// A height with one decimal at most.
export const short = (value) => number(value, 1).replace(/\.0$/, "");

const highest = (points) => points.reduce((best, point) => (point[2] > best[2] ? point : best));

// A canvas of as many pixels as the screen has, drawn on in CSS pixels; `place` puts a point on the unit square.
class Field {
    constructor(canvas, place, [pen, halo]) {
        this.side = canvas.clientWidth;
        this.place = place;
        this.brush = canvas.getContext("2d");
        this.pen = pen;
        this.halo = halo;
        this.taken = []; // left, top and width of what is written
        this.brush.scale(canvas.width / this.side, canvas.width / this.side);
        Object.assign(this.brush, { font: "600 12px sans-serif", lineJoin: "round" });
    }

    spot(point) {
        const [across, up] = this.place(point);
        return [this.side * across, this.side * (1 - up)];
    }

    rim(colour, width) {
        Object.assign(this.brush, { strokeStyle: colour, lineWidth: width });
        this.brush.stroke();
    }

    mark(shape, point, fill, alpha = 1) {
        const [x, y] = this.spot(point);
        const size = clamp(this.side / 420, 0.7, 1);
        this.brush.globalAlpha = alpha;
        this.brush.beginPath();
        for (const [right, down] of SHAPES[shape]) this.brush.lineTo(x + size * right, y + size * down);
        this.brush.closePath();
        this.rim("black", 4.5);
        this.rim("white", 2.5);
        this.brush.fillStyle = fill;
        this.brush.fill();
        this.brush.globalAlpha = 1;
    }

    ring(point) {
        this.brush.beginPath();
        this.brush.arc(...this.spot(point), 12, 0, 7);
        this.rim(this.halo, 5);
        this.rim(this.pen, 2);
    }

    // A point's height beside it, where it covers no dot and no other number.
    label(point, away = NEAR) {
        const { brush, side, taken } = this;
        const [x, y] = this.spot(point);
        const words = short(point[2]);
        const width = brush.measureText(words).width;
        const right = [x + away, y - 7];
        const left = [x - away - width, y - 7];
        const above = [x - width / 2, y - away - 14];
        const below = [x - width / 2, y + away];
        const inside = ([at, top]) => at > 2 && at + width < side - 2 && top > 2 && top < side - 16;
        const clears = ([at, top]) =>
            taken.every(([a, b, w]) => at > a + w + 2 || at + width + 2 < a || Math.abs(top - b) > 13);
        const free = [right, left, above, below].find((spot) => inside(spot) && clears(spot));
        if (!free) return;
        taken.push([...free, width]);
        Object.assign(brush, { strokeStyle: this.halo, fillStyle: this.pen, lineWidth: 3 });
        brush.strokeText(words, free[0], free[1] + 11.5);
        brush.fillText(words, free[0], free[1] + 11.5);
    }

    cross([across, up], colour) {
        const [x, y] = [across * this.side, (1 - up) * this.side];
        this.brush.beginPath();
        for (const [right, down] of [
            [-1, 0],
            [1, 0],
            [0, -1],
            [0, 1],
        ]) {
            this.brush.moveTo(x + 5 * right, y + 5 * down);
            this.brush.lineTo(x + this.side * right, y + this.side * down);
        }
        this.rim(colour, 1.5);
    }
}

// Draw on an empty canvas. `picture` and `top`, the highest point, are null until the landscape is uncovered, `aim`
// where the cross-hair isn't seen; `share` gives a height's place among the colours.
export function drawField(canvas, { asked, pending, generations, top, picture, fade, share, place, aim }) {
    const style = getComputedStyle(canvas.parentElement);
    const brush = canvas.getContext("2d");
    brush.globalAlpha = fade;
    if (picture) brush.drawImage(picture, 0, 0);
    brush.globalAlpha = 1;
    const ground = style.backgroundColor;
    const field = new Field(canvas, place, fade > 0.5 ? ["white", "black"] : [style.color, ground]);
    for (const point of [...asked, ...pending]) {
        const [x, y] = field.spot(point);
        field.taken.push([x - 7, y - 7, 14]);
    }
    for (const point of pending) field.mark("dot", point, ground, 0.6);
    for (const point of asked) field.mark("dot", point, css(share(point[2])));
    for (const points of generations) {
        const old = !top && points !== generations.at(-1);
        for (const point of points) field.mark("diamond", point, GREEN, old ? 0.4 : 1);
    }
    if (top) field.mark("star", top, GOLD);
    if (asked.length > 0) {
        const best = highest(asked);
        field.ring(best);
        field.label(best, FAR);
        if (generations.length > 0) field.label(highest(generations.flat()), top ? FAR : NEAR);
        else for (const point of [...asked].reverse()) if (point !== best) field.label(point);
    }
    if (aim) field.cross(aim, style.getPropertyValue("--blue"));
}
