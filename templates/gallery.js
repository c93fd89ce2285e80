// Draws the maps. They travel as 8-bit levels and are enlarged, scaled and coloured here with the
// same arithmetic as camreport/heatmap.py: float64, half-pixel centres, floor(x + 0.5).
"use strict";
(() => {
  const ZERO = 127; // the level of zero in a signed map: 0 is -peak, 254 is +peak
  const CELL_SIDE = 224; // pixels of a cell's longer side; the enlarged view has the photograph's
  const byId = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const parse = (id) => JSON.parse(byId(id).textContent);
  const bytes = (base64) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));

  const tables = Object.fromEntries(
    Object.entries(parse("tables")).map(([name, base64]) => [name, bytes(base64)]),
  );
  const view = { opacity: 0.5, threshold: 0, colormap: "viridis", scale: "map", rank: 0 };
  const images = new Map();

  /** An image's record with its levels, decoded when first asked for. */
  function imageOf(index) {
    if (!images.has(index)) {
      const record = parse(`data-${index}`);
      record.levels = bytes(byId(`maps-${index}`).textContent);
      record.photo = byId(`photo-${index}`).src;
      images.set(index, record);
    }
    return images.get(index);
  }

  const levelsOf = (image, map) =>
    image.levels.subarray(map.offset, map.offset + map.height * map.width);

  /** For each target pixel its two source pixels and the share of the second. */
  function neighbours(source, target) {
    const first = new Int32Array(target);
    const second = new Int32Array(target);
    const share = new Float64Array(target);
    for (let i = 0; i < target; i++) {
      const position = Math.min(Math.max(((i + 0.5) * source) / target - 0.5, 0), source - 1);
      first[i] = Math.floor(position);
      second[i] = Math.min(first[i] + 1, source - 1);
      share[i] = position - first[i];
    }
    return { first, second, share };
  }

  /** Levels enlarged bilinearly, as float64. */
  function enlarge(levels, map, width, height) {
    const x = neighbours(map.width, width);
    const y = neighbours(map.height, height);
    const out = new Float64Array(width * height);
    for (let row = 0; row < height; row++) {
      const upper = y.first[row] * map.width;
      const lower = y.second[row] * map.width;
      const down = y.share[row];
      for (let column = 0; column < width; column++) {
        const left = x.first[column];
        const right = x.second[column];
        const along = x.share[column];
        const above = levels[upper + left] * (1 - along) + levels[upper + right] * along;
        const below = levels[lower + left] * (1 - along) + levels[lower + right] * along;
        out[row * width + column] = above * (1 - down) + below * down;
      }
    }
    return out;
  }

  /** What a map's own maximum is multiplied by under the chosen scale. */
  function gainOf(image, map) {
    return view.scale === "map" || map.own ? 1 : map.peak / image.scale;
  }

  const tableOf = (map) => tables[map.signed ? "diverging" : view.colormap];

  /** Colour a map into a canvas; what lies below the threshold stays transparent. */
  function paint(canvas, image, map, width, height) {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const values = enlarge(levelsOf(image, map), map, width, height);
    const gain = gainOf(image, map);
    const table = tableOf(map);
    for (let i = 0; i < values.length; i++) {
      let index, visible;
      if (map.signed) {
        const offset = Math.min(Math.max(Math.floor((values[i] - ZERO) * gain + 0.5), -ZERO), ZERO);
        index = offset + ZERO;
        visible = Math.abs(offset) >= view.threshold * ZERO;
      } else {
        index = Math.min(Math.max(Math.floor(values[i] * gain + 0.5), 0), 255);
        visible = index >= view.threshold * 255;
      }
      if (visible) {
        pixels.data[4 * i] = table[3 * index];
        pixels.data[4 * i + 1] = table[3 * index + 1];
        pixels.data[4 * i + 2] = table[3 * index + 2];
        pixels.data[4 * i + 3] = 255;
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  /** Lay a frame's canvas over the part of the photograph that the model saw. */
  function placeSeen(frame, image) {
    const seen = frame.querySelector(".seen");
    if (!seen) return;
    const [left, top, right, bottom] = image.seen;
    Object.assign(seen.style, {
      left: `${left * 100}%`,
      top: `${top * 100}%`,
      width: `${(right - left) * 100}%`,
      height: `${(bottom - top) * 100}%`,
    });
  }

  /** The seen part's size in pixels when the photograph's longer side has `side`. */
  function seenSize(image, side) {
    const [left, top, right, bottom] = image.seen;
    const factor = side / Math.max(image.width, image.height);
    return [
      Math.max(1, Math.floor(image.width * factor * (right - left) + 0.5)),
      Math.max(1, Math.floor(image.height * factor * (bottom - top) + 0.5)),
    ];
  }

  const imageOfCell = (cell) => imageOf(Number(cell.closest("[data-image]").dataset.image));
  const mapOfCell = (cell) => imageOfCell(cell).cells[Number(cell.dataset.cell)];

  /** Draw a cell in the current view, unless it shows that already. */
  function draw(cell) {
    const image = imageOfCell(cell);
    const map = mapOfCell(cell);
    const state = [view.threshold, map.signed || view.colormap, view.scale].join();
    if (cell.dataset.drawn === state) return;
    const photo = cell.querySelector("img");
    if (!photo.src) {
      photo.width = image.width;
      photo.height = image.height;
      photo.src = image.photo;
      placeSeen(cell, image);
    }
    const canvas = cell.querySelector("canvas");
    if (canvas) paint(canvas, image, map, ...seenSize(image, CELL_SIDE));
    cell.dataset.drawn = state;
  }

  // --- cells in view are drawn at once, the others when they come into view or go to paper
  const cells = all(".cell");
  const inView = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        inView[entry.isIntersecting ? "add" : "delete"](entry.target);
        if (entry.isIntersecting) draw(entry.target);
      }
    },
    { rootMargin: "300px" },
  );
  const redraw = () => inView.forEach(draw);
  window.addEventListener("beforeprint", () => cells.forEach(draw));

  // --- controls
  function paintLegend(id, table, count) {
    const canvas = byId(id);
    if (!canvas) return;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(count, 1);
    for (let i = 0; i < count; i++) {
      pixels.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
  }

  function describeScale() {
    const each = view.scale === "map";
    byId("controls").querySelector(".legend .top").textContent = each
      ? "1 × each map’s maximum"
      : "1 × the image’s maximum";
    for (const words of all(".scale-words")) {
      words.textContent =
        (each ? "Each map is scaled to its own maximum" : "All maps of the image share one scale") +
        `; colours: ${view.colormap}` +
        (view.threshold ? `; values below ${Math.round(view.threshold * 100)} % are not drawn.` : ".");
    }
    for (const note of all(".shared-scale")) note.hidden = each;
  }

  function readControls() {
    view.opacity = byId("opacity").valueAsNumber / 100;
    view.threshold = byId("threshold").valueAsNumber / 100;
    view.colormap = byId("colormap").value;
    view.scale = byId("scale").value;
    view.rank = Number(document.querySelector("[name=rank]:checked")?.value ?? 0);
    for (const name of ["opacity", "threshold"]) {
      const text = `${byId(name).value} %`;
      document.querySelector(`output[for=${name}]`).textContent = text;
      byId(name).setAttribute("aria-valuetext", text);
    }
    document.documentElement.style.setProperty("--opacity", view.opacity);
    for (const figure of all(".class-figure")) {
      figure.classList.toggle("chosen", Number(figure.dataset.rank) === view.rank);
    }
    paintLegend("legend", tables[view.colormap], 256);
    paintLegend("legend-signed", tables.diverging, 255);
    describeScale();
    redraw();
    if (dialog.open) showEnlarged();
  }

  // --- one tab stop per table; arrows, Home and End move in it
  function moveIn(table, cell, key) {
    const rows = all("tbody tr", table).map((row) => all(".cell", row));
    const row = rows.findIndex((inRow) => inRow.includes(cell));
    const column = rows[row].indexOf(cell);
    const moves = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, Math.min(column, (rows[row - 1]?.length ?? 1) - 1)],
      ArrowDown: [row + 1, Math.min(column, (rows[row + 1]?.length ?? 1) - 1)],
      Home: [row, 0],
      End: [row, rows[row].length - 1],
    };
    const [toRow, toColumn] = moves[key] ?? [];
    return rows[toRow]?.[toColumn];
  }

  function enableGrid(table) {
    const first = table.querySelector(".cell");
    if (first) first.tabIndex = 0;
    table.addEventListener("focusin", (event) => {
      const cell = event.target.closest(".cell");
      if (!cell) return;
      for (const other of all(".cell", table)) other.tabIndex = other === cell ? 0 : -1;
    });
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest(".cell");
      const next = cell && moveIn(table, cell, event.key);
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
    table.addEventListener("click", (event) => {
      const cell = event.target.closest(".cell");
      if (cell) enlargeCell(cell);
    });
  }

  // --- the enlarged view
  const dialog = byId("enlarged");
  const probe = byId("probe");
  let shown = null; // { cell, image, map, values, width, height, x, y }

  const number = (value) => String(Number(value.toPrecision(3)));

  function enlargeCell(cell) {
    shown = { cell, x: 0.5, y: 0.5 };
    showEnlarged();
    if (!dialog.open) dialog.showModal();
  }

  function showEnlarged() {
    const { cell } = shown;
    const image = imageOfCell(cell);
    const map = mapOfCell(cell);
    const [width, height] = seenSize(image, Math.max(image.width, image.height));
    const values = map.picture ? null : enlarge(levelsOf(image, map), map, width, height);
    Object.assign(shown, { image, map, width, height, values });
    byId("enlarged-title").textContent =
      `${image.file} · ${map.class} · ${map.method} · ${map.layer}`;
    const positive = map.state === "positive";
    probe.className = `frame ${map.state}`;
    const photo = probe.querySelector("img");
    photo.width = image.width;
    photo.height = image.height;
    photo.src = image.photo;
    photo.alt = image.file;
    probe.querySelector(".seen").hidden = !positive;
    probe.querySelector(".label").textContent =
      { empty: "no positive evidence", undefined: "undefined" }[map.state] ?? "";
    placeSeen(probe, image);
    const picture = probe.querySelector(".picture");
    picture.hidden = !map.picture;
    if (map.picture) picture.src = cell.querySelector(".picture")?.src ?? "";
    probe.querySelector("canvas").hidden = map.picture;
    if (positive && !map.picture) paint(probe.querySelector("canvas"), image, map, width, height);
    showBar(image, map);
    showFacts(image, map);
    showReading();
    byId("previous").disabled = !neighbour(-1);
    byId("next").disabled = !neighbour(1);
  }

  function showBar(image, map) {
    const table = tableOf(map);
    const count = map.signed ? 255 : 256;
    const canvas = byId("bar");
    canvas.height = count;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(1, count);
    for (let i = 0; i < count; i++) {
      const from = 3 * (count - 1 - i);
      pixels.data.set([table[from], table[from + 1], table[from + 2], 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    const top = map.peak / gainOf(image, map) || 0;
    byId("bar").parentElement.hidden = map.picture;
    dialog.querySelector(".bar-top").textContent = number(map.base + top);
    dialog.querySelector(".bar-bottom").textContent = number(map.signed ? -top : map.base);
  }

  function showFacts(image, map) {
    const facts = [
      ["Grid of the map", `${map.grid} cells`],
      ["Largest value", map.state === "positive" ? number(map.base + map.peak) : map.state],
      ["Scale", view.scale === "map" || map.own ? "this map’s own maximum" : "shared by the image"],
    ];
    byId("facts").replaceChildren(
      ...facts.map(([name, value]) => {
        const pair = document.createElement("div");
        const term = document.createElement("dt");
        const definition = document.createElement("dd");
        term.textContent = name;
        definition.textContent = value;
        pair.append(term, definition);
        return pair;
      }),
    );
  }

  /** Say the value at the cross-hair, which is kept in shares of the photograph. */
  function showReading() {
    const { image, map, width, height, values, x, y } = shown;
    const cross = probe.querySelector(".cross");
    cross.style.left = `${x * 100}%`;
    cross.style.top = `${y * 100}%`;
    const [left, top, right, bottom] = image.seen;
    const column = Math.floor(((x - left) / (right - left)) * width);
    const row = Math.floor(((y - top) / (bottom - top)) * height);
    const place = `x ${Math.floor(x * image.width)}, y ${Math.floor(y * image.height)}`;
    let reading = "not seen by the model";
    if (map.picture) {
      reading = "a picture of gradients: grey is zero";
    } else if (column >= 0 && row >= 0 && column < width && row < height) {
      const level = values[row * width + column];
      const share = map.signed ? (level - ZERO) / ZERO : level / 255;
      reading =
        map.state === "positive"
          ? `${number(map.base + share * map.peak)}\n${Math.round(share * 100)} % of the map’s maximum`
          : map.state;
    }
    byId("reading").textContent = `${place}\n${reading}`;
  }

  function neighbour(step) {
    const inImage = all(".class-figure", shown.cell.closest(".image"))
      .filter((figure) => figure.offsetParent !== null)
      .flatMap((figure) => all(".cell", figure));
    return inImage[inImage.indexOf(shown.cell) + step];
  }

  function step(by) {
    const next = neighbour(by);
    if (!next) return;
    shown.cell = next;
    showEnlarged();
  }

  function movePointer(event) {
    const box = probe.getBoundingClientRect();
    shown.x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1 - 1e-9);
    shown.y = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 1 - 1e-9);
    showReading();
  }

  probe.addEventListener("pointermove", movePointer);
  probe.addEventListener("pointerdown", movePointer);
  probe.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!steps[event.key]) return;
    event.preventDefault();
    const [dx, dy] = steps[event.key];
    const by = event.shiftKey ? 0.1 : 0.01;
    shown.x = Math.min(Math.max(shown.x + dx * by, 0), 1 - 1e-9);
    shown.y = Math.min(Math.max(shown.y + dy * by, 0), 1 - 1e-9);
    showReading();
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => shown.cell.focus());

  // --- start
  document.documentElement.classList.add("js");
  all(".matrix").forEach(enableGrid);
  byId("controls").addEventListener("input", readControls);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  readControls();
  cells.forEach((cell) => observer.observe(cell));
})();
