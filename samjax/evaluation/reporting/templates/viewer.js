"use strict";
(() => {
  const { runs, cases, style } = JSON.parse(document.getElementById("viewer-data").textContent);
  const byId = (id) => document.getElementById("viewer-" + id);
  const caseSelect = byId("case");
  const roiSelect = byId("roi");
  const modalities = byId("modalities");
  const allOverlays = byId("overlays");
  const slider = byId("slice");
  const profile = byId("profile");
  const where = byId("where");
  const panes = byId("panes");
  const section = document.getElementById("slices");

  const WIDTH = 600; // pixels of a canvas at least, so that borders are sharp

  // The case on show: masks (Uint8Array, C order), the label's pixels by slice, sheets by modality, panes.
  let current = null;

  function element(name, properties = {}, children = []) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // Run lengths as varints, beginning with background.
  function decodeMask(text, size) {
    const code = atob(text);
    const mask = new Uint8Array(size);
    let place = 0;
    let inside = false;
    for (let i = 0; i < code.length; inside = !inside) {
      let length = 0;
      let factor = 1;
      let byte;
      do {
        byte = code.charCodeAt(i++);
        length += (byte & 127) * factor;
        factor *= 128;
      } while (byte & 128);
      if (inside) mask.fill(1, place, place + length);
      place += length;
    }
    return mask;
  }

  function count(mask, start, stop) {
    let sum = 0;
    for (let i = start; i < stop; i++) sum += mask[i];
    return sum;
  }

  // Dice of two masks between two places; 1 where both are empty.
  function dice(a, b, start, stop) {
    let both = 0;
    for (let i = start; i < stop; i++) both += a[i] & b[i];
    const sum = count(a, start, stop) + count(b, start, stop);
    return sum ? (2 * both) / sum : 1;
  }

  function showCase(index) {
    const data = cases[index];
    current = { data, plane: data.shape[1] * data.shape[2], sheets: {}, panes: current?.panes ?? [] };
    roiSelect.replaceChildren(...Object.keys(data.truth).map((roi) => element("option", { textContent: roi })));
    const names = Object.keys(data.sheets);
    const chosen = modality();
    modalities.replaceChildren(
      modalities.firstElementChild,
      ...names.map((name, number) => {
        const checked = names.includes(chosen) ? name === chosen : number === names.length - 1;
        const radio = element("input", { type: "radio", name: "modality", value: name, checked });
        return element("label", {}, [radio, ` ${name}`]);
      }),
    );
    slider.min = data.start[0];
    slider.max = data.start[0] + data.shape[0] - 1;
    showRegion();
  }

  // Decodes the masks of the region and goes to the slice that shows most of it.
  function showRegion() {
    const { data, plane } = current;
    const size = plane * data.shape[0];
    const roi = roiSelect.value;
    current.truth = decodeMask(data.truth[roi], size);
    current.areas = Array.from({ length: data.shape[0] }, (_, z) => count(current.truth, z * plane, (z + 1) * plane));
    slider.value = data.start[0] + current.areas.indexOf(Math.max(...current.areas));
    const made = [makePane(null)];
    for (const [run, masks] of Object.entries(data.predictions)) {
      if (roi in masks) made.push(makePane(run, decodeMask(masks[roi], size)));
    }
    for (const pane of made) {
      const before = current.panes.find((other) => other.run === pane.run);
      pane.box.checked = before ? before.box.checked : allOverlays.checked;
    }
    current.panes = made;
    panes.replaceChildren(...made.map((pane) => pane.figure));
    drawProfile();
    draw();
  }

  // The picture of a run, switched by its box; or of the label, whose box switches its border in all pictures.
  function makePane(run, mask = null) {
    const { shape, spacing } = current.data;
    const scale = Math.ceil(WIDTH / shape[2]);
    const canvas = element("canvas", {
      width: shape[2] * scale,
      height: Math.round((shape[1] * scale * spacing[1]) / spacing[2]),
    });
    canvas.setAttribute("role", "img");
    const box = element("input", { type: "checkbox" });
    const text = element("span");
    const caption = element("figcaption", {}, [
      element("label", {}, [box, ` ${run ?? "label"}`]),
      ...(run === null ? [] : [element("br"), runs[run].prompts]),
      element("br"),
      text,
    ]);
    box.addEventListener("change", draw);
    const volume = mask && dice(current.truth, mask, 0, mask.length);
    return { run, mask, volume, canvas, box, text, figure: element("figure", {}, [canvas, caption]) };
  }

  function modality() {
    return modalities.querySelector("input:checked")?.value;
  }

  // The sheet of a modality as a decoded image.
  async function sheet(name) {
    if (!current.sheets[name]) {
      const image = element("img", { src: current.data.sheets[name] });
      current.sheets[name] = image.decode().then(() => image);
    }
    return current.sheets[name];
  }

  async function draw() {
    const shown = current;
    const name = modality();
    const number = Number(slider.value);
    const image = await sheet(name);
    if (shown !== current || name !== modality() || number !== Number(slider.value)) return;
    const z = number - shown.data.start[0];
    const about = `${shown.data.id}, ${name}, slice ${number} (0 to ${shown.data.slices - 1})`;
    where.textContent = `${about}: ${shown.areas[z]} pixels of ${roiSelect.value}`;
    slider.setAttribute("aria-valuetext", `${number}, ${shown.areas[z]} pixels of ${roiSelect.value}`);
    const border = borderOf(shown.truth, z);
    for (const pane of shown.panes) {
      drawPane(pane, image, z, border);
      pane.text.textContent = pane.mask ? scoreText(pane, z) : `${shown.areas[z]} pixels`;
      pane.canvas.setAttribute("aria-label", `${about}, ${pane.run ?? "label"}: ${pane.text.textContent}`);
    }
    allOverlays.checked = shown.panes.some((pane) => pane.box.checked);
    allOverlays.indeterminate = allOverlays.checked && !shown.panes.every((pane) => pane.box.checked);
    markProfile(z);
  }

  function scoreText(pane, z) {
    const { plane, areas, truth } = current;
    const whole = `volume ${pane.volume.toFixed(3)}`;
    if (runs[pane.run].prompted && !areas[z]) return `Dice: not run here, for want of a label; ${whole}`;
    return `Dice: slice ${dice(truth, pane.mask, z * plane, (z + 1) * plane).toFixed(3)}, ${whole}`;
  }

  function drawPane(pane, image, z, border) {
    const [, rows, columns] = current.data.shape;
    const context = pane.canvas.getContext("2d");
    const { width, height } = pane.canvas;
    const across = current.data.sheet_columns;
    const left = (z % across) * columns;
    const top = Math.floor(z / across) * rows;
    context.imageSmoothingEnabled = true;
    context.drawImage(image, left, top, columns, rows, 0, 0, width, height);
    if (pane.mask && pane.box.checked) {
      context.fillStyle = `rgb(0 0 0 / ${1 - style.dimmed})`;
      context.fillRect(0, 0, width, height);
      context.imageSmoothingEnabled = false;
      context.drawImage(overlay(pane.mask, z), 0, 0, width, height);
    }
    if (current.panes[0].box.checked) {
      context.save();
      context.scale(width / columns, height / rows);
      context.lineWidth = (3 * columns) / width;
      context.strokeStyle = style.border;
      context.stroke(border);
      context.restore();
    }
    context.font = "600 22px system-ui, sans-serif";
    context.fillStyle = "#ffffff";
    context.fillText("R", 8, 28);
    context.fillText("L", width - 22, 28);
  }

  // Hits and errors of a slice in their colours, a pixel each.
  function overlay(mask, z) {
    const [, rows, columns] = current.data.shape;
    const canvas = element("canvas", { width: columns, height: rows });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    const start = z * current.plane;
    for (let i = 0; i < current.plane; i++) {
      const [truth, found] = [current.truth[start + i], mask[start + i]];
      if (!truth && !found) continue;
      const colour = truth ? (found ? style.truePositive : style.falseNegative) : style.falsePositive;
      pixels.data.set([...colour, 255 * style.opacity], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  // The edges between pixels of a slice that a mask holds and others.
  function borderOf(mask, z) {
    const [, rows, columns] = current.data.shape;
    const start = z * current.plane;
    const at = (y, x) => y >= 0 && x >= 0 && y < rows && x < columns && mask[start + y * columns + x] === 1;
    const path = new Path2D();
    for (let y = 0; y <= rows; y++) {
      for (let x = 0; x <= columns; x++) {
        for (const [above, endX, endY] of [[at(y - 1, x), x + 1, y], [at(y, x - 1), x, y + 1]]) {
          if (at(y, x) === above) continue;
          path.moveTo(x, y);
          path.lineTo(endX, endY);
        }
      }
    }
    return path;
  }

  // Above the slider: how many pixels of the region each slice holds.
  function drawProfile() {
    profile.width = current.areas.length * 6;
    markProfile(-1);
  }

  function markProfile(marked) {
    const context = profile.getContext("2d");
    const most = Math.max(1, ...current.areas);
    const colours = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, profile.width, profile.height);
    current.areas.forEach((area, z) => {
      context.fillStyle = colours.getPropertyValue(z === marked ? "--link" : "--faint");
      const height = z === marked ? profile.height : (area / most) * profile.height;
      context.fillRect(6 * z, profile.height - height, 5, height);
    });
  }

  function step(by) {
    slider.value = Number(slider.value) + by;
    draw();
  }

  function switchOverlays(on) {
    for (const pane of current.panes) pane.box.checked = on;
    draw();
  }

  const STEPS = {
    ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6,
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const native = event.target.type === "range" || event.target.type === "radio";
    const radios = modalities.querySelectorAll("input");
    if (event.key in STEPS && !native) {
      step(STEPS[event.key]);
    } else if (event.key >= "1" && event.key <= String(radios.length)) {
      radios[event.key - 1].checked = true;
      draw();
    } else if (event.key.toLowerCase() === "o") {
      switchOverlays(!current.panes.some((pane) => pane.box.checked));
    } else {
      return;
    }
    event.preventDefault();
  }

  cases.forEach((data, index) => caseSelect.append(element("option", { value: index, textContent: data.id })));
  caseSelect.addEventListener("change", () => showCase(caseSelect.value));
  roiSelect.addEventListener("change", showRegion);
  modalities.addEventListener("change", draw);
  slider.addEventListener("input", draw);
  allOverlays.addEventListener("change", () => switchOverlays(allOverlays.checked));
  section.addEventListener("keydown", onKey);
  panes.addEventListener(
    "wheel",
    (event) => {
      // Only once it has the focus: until then the wheel scrolls the page.
      if (!panes.contains(document.activeElement) || !event.deltaY) return;
      event.preventDefault();
      step(-Math.sign(event.deltaY));
    },
    { passive: false },
  );
  showCase(0);
})();
