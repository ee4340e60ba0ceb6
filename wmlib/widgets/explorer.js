// The browser's side of wmlib.widgets.LatentExplorer: it holds the sliders, asks for pictures and paints the answers.

const SIDE = 64;
const PICTURE = SIDE * SIDE * 3; // bytes
const UNDER_WAY = 2; // questions not yet answered; what is moved meanwhile is asked as one, with the newest values
const PATIENCE = 3000; // milliseconds without an answer after which the explorer says so
const REST = 120; // milliseconds without a question before the pictures at the sliders' ends are asked for
const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6 };

const PAGE = `
    <div class="wm-explorer" role="group" aria-label="latent explorer" data-lm-suppress-shortcuts="true">
        <div class="wm-pictures">
            ${["frame", "decoded", "change"].map((name) => `
                <figure data-picture="${name}">
                    <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
                    <figcaption><div></div><div></div></figcaption>
                </figure>`).join("")}
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
const LATENT = `
    <div class="wm-latent">
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
        <div>
            <div class="wm-head"><b></b><span></span><output></output></div>
            <div class="wm-track"><i></i><input type="range" step="any"></div>
        </div>
        <canvas width="${SIDE}" height="${SIDE}" role="img"></canvas>
    </div>`;

const text = (value, digits = 2) => value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "\u2212");
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function element(page) {
    const holder = document.createElement("template");
    holder.innerHTML = page.trim();
    return holder.content.firstChild;
}

function normal() {
    return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function paint(canvas, rgb) {
    const brush = canvas.getContext("2d"), image = brush.createImageData(SIDE, SIDE);
    for (let from = 0, to = 0; from < PICTURE; from += 3, to += 4) {
        for (let colour = 0; colour < 3; colour++) image.data[to + colour] = rgb[from + colour];
        image.data[to + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
}

function difference(now, before) { // around grey, and its mean size
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
    const explorer = element(PAGE), find = (name) => explorer.querySelector(name);
    el.replaceChildren(explorer);
    const [picker, reset, random, all] = [".wm-frame input", ".wm-reset", ".wm-random", ".wm-all"].map(find);
    const view = Math.random(); // whose question it was: one explorer can stand on a page twice
    let frame = 0, moved = {}, mu = null, atMu = null, open = false; // atMu: what V decodes from mu of this frame
    let wanted = true, underWay = 0, heard = 0, rest = 0, trouble = "";

    function ask(moves, ends = false) {
        if (underWay === 0) heard = performance.now();
        underWay += 1;
        try {
            model.send({ view, frame, moves, ends });
        } catch {} // no kernel any more: say() tells, since no answer comes
    }

    function next() { // ask for what is wanted by now, if it is its turn
        if (!wanted || underWay >= UNDER_WAY) return;
        wanted = false;
        const some = Object.keys(moved).length > 0;
        ask(atMu && some ? [moved] : some ? [{}, moved] : [{}]);
    }

    function want() {
        wanted = true;
        next();
        place();
    }

    function askEnds() {
        const shown = latents.slice(0, count());
        ask(shown.flatMap((latent) => [{ [latent]: -reach }, { [latent]: reach }]), true);
    }

    function restEnds() {
        clearTimeout(rest);
        rest = setTimeout(() => (underWay ? restEnds() : askEnds()), REST);
    }

    const count = () => (open ? latents.length : Math.min(sliders, latents.length));

    function say() {
        const silent = underWay > 0 && performance.now() - heard > PATIENCE;
        const line = silent ? "waiting for the kernel: it is busy, or was restarted (then run this cell again)" : trouble;
        if (find(".wm-state").textContent !== line) find(".wm-state").textContent = line;
        explorer.dataset.mode = silent ? "waiting" : "";
    }

    function show(name, rgb, caption, note, alt) {
        const [canvas, line] = find(`[data-picture="${name}"]`).children;
        paint(canvas, rgb);
        canvas.setAttribute("aria-label", alt);
        line.firstElementChild.textContent = caption;
        line.lastElementChild.textContent = note;
    }

    function hear(answer, buffers) {
        if (answer.view !== view) return;
        underWay = Math.max(0, underWay - 1);
        heard = performance.now();
        trouble = answer.trouble ?? "";
        if (!trouble && answer.frame === frame) {
            const [original, decoded] = buffers.map((it) => new Uint8Array(it.buffer, it.byteOffset, it.byteLength));
            const pictures = answer.moves.map((_, index) => decoded.subarray(index * PICTURE, (index + 1) * PICTURE));
            answer.ends ? paintEnds(pictures) : paintPictures(answer, original, pictures);
        }
        next();
        say();
    }

    function paintPictures(answer, original, pictures) {
        const isMu = (moves) => Object.keys(moves).length === 0, moves = answer.moves.at(-1), now = pictures.at(-1);
        if (isMu(answer.moves[0])) atMu = pictures[0];
        if (!atMu) return; // a late answer about this frame from before another was chosen
        if (!mu) {
            mu = answer.mu;
            place();
            restEnds();
        }
        const whose = isMu(moves) ? "from mu" : "from your z", [picture, size] = difference(now, atMu);
        const moving = isMu(moves) ? "" : `, mu but for latent ${Object.keys(moves).join(", ")}`;
        const mean = `${text(size, 1)} of 255 on average`;
        show("frame", original, "the frame", "12,288 numbers", `frame ${frame + 1} of ${frames}, before V`);
        show("decoded", now, `decoded ${whose}`, `${latents.length} numbers`, `what V decodes ${whose}${moving}`);
        show("change", picture, "difference from mu", mean, `decoded ${whose} minus decoded from mu: ${mean}`);
    }

    function paintEnds(pictures) {
        const ends = explorer.querySelectorAll(".wm-latent canvas");
        pictures.forEach((picture, index) => index < ends.length && paint(ends[index], picture));
    }

    function place() { // the sliders, their ticks and numbers, as things stand
        picker.setAttribute("aria-valuetext", `${frame + 1} of ${frames}`);
        find(".wm-frame output").textContent = `${frame + 1} of ${frames}`;
        if (!mu) return;
        for (const [index, row] of [...find(".wm-latents").children].entries()) {
            const latent = latents[index], value = moved[latent] ?? mu[latent];
            const slider = row.querySelector("input");
            slider.value = value;
            slider.setAttribute("aria-valuetext", `${text(value)}, mu is ${text(mu[latent])}`);
            row.querySelector("output").textContent = text(value, 1);
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
        if (Math.abs(value - mu[latent]) < reach / 100) delete moved[latent]; // at the tick
        else moved[latent] = clamp(value, -reach, reach);
        want();
    }

    function add(latent, index) {
        const row = element(LATENT), slider = row.querySelector("input");
        row.querySelector("b").textContent = `latent ${latent}`;
        row.querySelector("span").textContent = `${text(nats[index])} nats`;
        row.style.setProperty("--share", nats[index] / nats[0]);
        slider.setAttribute("aria-label", `latent ${latent}`);
        [slider.min, slider.max, slider.value] = [-reach, reach, 0];
        slider.addEventListener("input", () => move(latent, slider.valueAsNumber));
        row.querySelectorAll("canvas").forEach((canvas, end) => {
            canvas.setAttribute("aria-label", `decoded with latent ${latent} at ${end ? reach : -reach}, the others at mu`);
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
        if (event.ctrlKey || event.metaKey || event.altKey || event.code === "Tab") return;
        event.stopPropagation(); // no switching of cells
        if (event.code === "Escape") event.target.blur();
        if (!(event.code in STEPS) && (event.code !== "Space" || event.target.type === "button")) return;
        event.preventDefault(); // no scrolling; the same steps in every browser
        const slider = event.target, steps = STEPS[event.code];
        if (slider.type !== "range" || !steps) return;
        if (slider === picker) choose(clamp(frame + steps, 0, frames - 1));
        else slider.value = slider.valueAsNumber + steps / 10, slider.dispatchEvent(new Event("input"));
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
    find(".wm-legend").innerHTML = `<b>|</b> is mu of this frame. Grey is no difference. The bar and the nats are the mean KL: how much V uses
        the latent. The small pictures: that latent at ${text(-reach, 0)} and at ${text(reach, 0)}, all others at mu.`;
    list();
    model.on("msg:custom", hear);
    next();
    const watch = setInterval(say, 250);
    return () => {
        clearInterval(watch);
        clearTimeout(rest);
        model.off("msg:custom", hear);
    };
}

export default { render };
