// The hidden landscape's colours and its picture, uncovered.

import { clamp } from "./common.js";

const BANDS = 10; // contour lines part the landscape into as many heights
export const RAMP = ["00224e", "213b6e", "4c556c", "6c6e72", "8e8978", "b1a570", "d9c55c", "fee838"] // cividis
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

const colour = (share) => {
    const at = clamp(share) * (RAMP.length - 1);
    const from = Math.min(RAMP.length - 2, Math.floor(at));
    return RAMP[from].map((low, i) => low + (at - from) * (RAMP[from + 1][i] - low));
};
export const css = (share) => `rgb(${colour(share).map(Math.round).join(" ")})`;

// A place on the landscape's square when that is laid down another way; back: from the page.
export function turned([u, v], turn, back = false) {
    if (back && turn & 4) [u, v] = [v, u];
    [u, v] = [turn & 1 ? 1 - u : u, turn & 2 ? 1 - v : v];
    return !back && turn & 4 ? [v, u] : [u, v];
}

// The landscape with contour lines, on a canvas of its own.
export function relief(land, turn, low, high, side) {
    const canvas = document.createElement("canvas");
    const N = Math.sqrt(land.length);
    const level = new Float32Array(side * side);
    canvas.width = canvas.height = side;
    const brush = canvas.getContext("2d");
    const image = brush.createImageData(side, side);
    for (let row = 0, at = 0; row < side; row++)
        for (let column = 0; column < side; column++, at++) {
            const [x, y] = turned([column / side, 1 - row / side], turn, true).map((to) => to * (N - 1));
            const left = Math.min(N - 2, Math.floor(x));
            const foot = Math.min(N - 2, Math.floor(y));
            const corner = foot * N + left;
            const [lower, upper] = [corner, corner + N].map((i) => land[i] + (x - left) * (land[i + 1] - land[i]));
            level[at] = (lower + (y - foot) * (upper - lower) - low) / (high - low || 1);
        }
    level.forEach((here, at) => {
        const [next, below] = [(at + 1) % side ? at + 1 : at - 1, at + side < level.length ? at + side : at - side];
        const slope = Math.hypot(here - level[next], here - level[below]) * BANDS; // for each pixel
        const line = Math.round(here * BANDS);
        const far = Math.abs(here * BANDS - line) / slope;
        const shade = line > 0 && line < BANDS && slope > 0 ? 0.6 * clamp(1.2 - far) : 0;
        image.data.set([...colour(here).map((part) => part + shade * (255 - part)), 255], 4 * at);
    });
    brush.putImageData(image, 0, 0);
    return canvas;
}
