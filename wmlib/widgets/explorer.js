// The browser's side of wmlib.widgets.LatentExplorer: it holds the sliders, asks for pictures and paints the answers.

import {
    bytes,
    clamp,
    element,
    isForeign,
    Kernel,
    number,
    PICTURE,
    paint,
    SIDE,
    STEPS,
    say,
    split,
    watch,
} from "./common.js";

const UNDER_WAY = 2; // questions not yet answered; what is moved meanwhile is asked as one, with the newest values
const REST = 120; // milliseconds without a question before the pictures at the sliders' ends are asked for

const FIGURE = (name) => `
    <figure data-picture="${name}">
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
        <figcaption><div></div><div></div></figcaption>
    </figure>`;
const PAGE = `
    <div class="wm-widget wm-explorer" role="group" aria-label="latent explorer" data-lm-suppress-shortcuts="true">
        <div class="wm-pictures">
            ${["frame", "decoded", "change"].map(FIGURE).join("")}
        </div>
        <div class="wm-bar">
            <label class="wm-frame">frame <input type="range" min="0" step="1" value="0"><output></output></label>
            <button type="button" class="wm-reset" title="all latents back to mu of this frame">reset</button>
            <button type="button" class="wm-random" title="the latents shown, drawn from N(0, 1)">random</button>
            <button type="button" class="wm-all" aria-pressed="false"></button>
        </div>
        <div class="wm-state" role="status"></div>
        <div class="wm-latents"></div>
        <div class="wm-legend"></div>
    </div>`;
const LEGEND = (low, high) => `
    <b>|</b> is mu of this frame. Grey is no difference. The bar and the nats are the mean KL: how much V uses
    the latent. The small pictures: that latent at ${low} and at ${high}, all others at mu.`;
const LATENT = `
    <div class="wm-latent">
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
        <div>
            <div class="wm-head"><b></b><span></span><output></output></div>
            <div class="wm-track"><i></i><input type="range" step="any"></div>
        </div>
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
    </div>`;

function normal() {
    return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// Around grey, and its mean size.
function difference(now, before) {
    const picture = new Uint8ClampedArray(PICTURE);
    let sum = 0;
    for (let i = 0; i < PICTURE; i++) {
        picture[i] = 128 + now[i] - before[i];
        sum += Math.abs(now[i] - before[i]);
    }
    return [picture, sum / PICTURE];
}

function render({ model, el }) {
    const { frames, latents, nats, reach, sliders } = model.get("looks");
    const explorer = element(PAGE);
    const find = (name) => explorer.querySelector(name);
    el.replaceChildren(explorer);
    const [picker, reset, random, all] = [".wm-frame input", ".wm-reset", ".wm-random", ".wm-all"].map(find);
    const kernel = new Kernel(model, hear, UNDER_WAY);
    let frame = 0;
    let moved = {};
    let mu = null;
    let atMu = null; // what V decodes from mu of this frame
    let open = false; // whether all sliders are shown
    let rest = 0;
    let trouble = "";

    // What V is to decode as things stand.
    function question() {
        const some = Object.keys(moved).length > 0;
        return { frame, moves: atMu && some ? [moved] : some ? [{}, moved] : [{}], ends: false };
    }

    function want() {
        kernel.want(question);
        place();
    }

    function askEnds() {
        const moves = latents.slice(0, count()).flatMap((latent) => [{ [latent]: -reach }, { [latent]: reach }]);
        kernel.ask({ frame, moves, ends: true });
    }

    function restEnds() {
        clearTimeout(rest);
        rest = setTimeout(() => (kernel.underWay ? restEnds() : askEnds()), REST);
    }

    const count = () => (open ? latents.length : Math.min(sliders, latents.length));

    function tell() {
        const silence = kernel.silence;
        say(find(".wm-state"), silence || trouble);
        explorer.dataset.mode = silence ? "waiting" : "";
    }

    function show(name, rgb, caption, note, alt) {
        const [canvas, line] = find(`[data-picture="${name}"]`).children;
        paint(canvas, rgb);
        canvas.setAttribute("aria-label", alt);
        line.firstElementChild.textContent = caption;
        line.lastElementChild.textContent = note;
    }

    function hear(answer, buffers) {
        trouble = answer.trouble ?? "";
        if (!trouble && answer.frame === frame) {
            const [original, decoded] = buffers.map(bytes);
            const pictures = split(decoded, PICTURE);
            answer.ends ? paintEnds(pictures) : paintPictures(answer, original, pictures);
        }
        tell();
    }

    function paintPictures(answer, original, pictures) {
        const isMu = (moves) => Object.keys(moves).length === 0;
        const moves = answer.moves.at(-1);
        const now = pictures.at(-1);
        if (isMu(answer.moves[0])) atMu = pictures[0];
        if (!atMu) return; // a late answer about this frame from before another was chosen
        if (!mu) {
            mu = answer.mu;
            place();
            restEnds();
        }
        const whose = isMu(moves) ? "from mu" : "from your z";
        const [picture, size] = difference(now, atMu);
        const moving = isMu(moves) ? "" : `, mu but for latent ${Object.keys(moves).join(", ")}`;
        const mean = `${number(size, 1)} of 255 on average`;
        show("frame", original, "the frame", "12,288 numbers", `frame ${frame + 1} of ${frames}, before V`);
        show("decoded", now, `decoded ${whose}`, `${latents.length} numbers`, `what V decodes ${whose}${moving}`);
        show("change", picture, "difference from mu", mean, `decoded ${whose} minus decoded from mu: ${mean}`);
    }

    function paintEnds(pictures) {
        const ends = explorer.querySelectorAll(".wm-latent canvas");
        pictures.forEach((picture, index) => index < ends.length && paint(ends[index], picture));
    }

    // The sliders, their ticks and numbers, as things stand.
    function place() {
        picker.setAttribute("aria-valuetext", `${frame + 1} of ${frames}`);
        find(".wm-frame output").textContent = `${frame + 1} of ${frames}`;
        if (!mu) return;
        for (const [index, row] of [...find(".wm-latents").children].entries()) {
            const latent = latents[index];
            const value = moved[latent] ?? mu[latent];
            const slider = row.querySelector("input");
            slider.value = value;
            slider.setAttribute("aria-valuetext", `${number(value)}, mu is ${number(mu[latent])}`);
            row.querySelector("output").textContent = number(value, 1);
            row.style.setProperty("--mu", (mu[latent] + reach) / (2 * reach));
            row.classList.toggle("wm-moved", latent in moved);
        }
    }

    function choose(number) {
        [frame, moved, mu, atMu] = [number, {}, null, null];
        picker.value = number;
        want();
    }

    function move(latent, value) {
        if (!mu) return;
        if (Math.abs(value - mu[latent]) < reach / 100)
            delete moved[latent]; // at the tick
        else moved[latent] = clamp(value, -reach, reach);
        want();
    }

    function add(latent, index) {
        const row = element(LATENT);
        const slider = row.querySelector("input");
        row.querySelector("b").textContent = `latent ${latent}`;
        row.querySelector("span").textContent = `${number(nats[index])} nats`;
        row.style.setProperty("--share", nats[index] / nats[0]);
        slider.setAttribute("aria-label", `latent ${latent}`);
        [slider.min, slider.max, slider.value] = [-reach, reach, 0];
        slider.addEventListener("input", () => move(latent, slider.valueAsNumber));
        row.querySelectorAll("canvas").forEach((canvas, end) => {
            canvas.setAttribute(
                "aria-label",
                `decoded with latent ${latent} at ${end ? reach : -reach}, the others at mu`,
            );
        });
        find(".wm-latents").append(row);
    }

    function list() {
        find(".wm-latents").replaceChildren();
        latents.slice(0, count()).forEach(add);
        all.textContent = open ? `only ${sliders}` : `all ${latents.length}`;
        all.title = open ? "the most used latents" : "all latents, the most used first";
        all.setAttribute("aria-pressed", open);
        explorer.classList.toggle("wm-open", open);
        all.hidden = sliders >= latents.length;
        place();
    }

    explorer.addEventListener("keydown", (event) => {
        if (isForeign(event)) return;
        event.stopPropagation(); // no switching of cells
        if (event.code === "Escape") event.target.blur();
        if (!(event.code in STEPS) && (event.code !== "Space" || event.target.type === "button")) return;
        event.preventDefault(); // no scrolling; the same steps in every browser
        const slider = event.target;
        const steps = STEPS[event.code];
        if (slider.type !== "range" || !steps) return;
        if (slider === picker) choose(clamp(frame + steps, 0, frames - 1));
        else {
            slider.value = slider.valueAsNumber + steps / 10;
            slider.dispatchEvent(new Event("input"));
        }
    });
    picker.max = frames - 1;
    picker.addEventListener("input", () => choose(picker.valueAsNumber));
    reset.addEventListener("click", () => {
        moved = {};
        want();
    });
    random.addEventListener("click", () => {
        for (const latent of latents.slice(0, count())) moved[latent] = clamp(normal(), -reach, reach);
        want();
    });
    all.addEventListener("click", () => {
        open = !open;
        list();
        restEnds();
    });
    find(".wm-legend").innerHTML = LEGEND(number(-reach, 0), number(reach, 0));
    list();
    kernel.want(question);
    const end = watch(explorer, tell);
    return () => {
        end();
        clearTimeout(rest);
        kernel.close();
    };
}

export default { render };
