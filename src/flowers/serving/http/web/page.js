// The page: sends a photo to its own server, shows the prediction, then the overlay of Grad-CAM.
"use strict";

const LONGEST = 1024; // pixels; the network's input is smaller
const QUALITY = 0.92;
const LARGEST = 16e6; // bytes, the server's limit
const threshold = parseFloat(document.documentElement.dataset.threshold); // NaN: the model has none

const at = (id) => document.getElementById(id);
const page = document.body;

let turn = 0; // counts photos: a response for an earlier photo is dropped
let view = 0; // counts overlays, likewise
let photo = null; // the current one, as it was sent
let unexplained = false; // the model has no explanations

// `source` is a file, or the promise of one.
async function classify(source, caption, button) {
  const mine = ++turn;
  view++;
  at("prediction").ariaBusy = "true";
  press("#strip button", button);
  report(null);
  let file;
  try {
    file = await source;
    const { blob, shown } = await small(file);
    if (mine !== turn) return;
    if (blob.size > LARGEST) throw new Error(`larger than ${LARGEST / 1e6} MB`);
    photo = blob;
    showPhoto(blob, caption, shown);
    const prediction = await (await post("predict", blob)).json();
    if (mine === turn) show(prediction);
  } catch (error) {
    if (mine !== turn) return;
    clear();
    report(`${file?.name ? file.name + ": " : ""}${error.message}`);
  } finally {
    if (mine === turn) at("prediction").ariaBusy = "false";
  }
}

// A phone's photo has some 5 MB, more than the network's input needs. The browser scales it down, so that it is sent in
// no time. createImageBitmap applies the orientation of its EXIF; the copy has no EXIF, so no place and date either.
// Smaller photos, and formats that this browser cannot read, are sent as they are.
async function small(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return { blob: file, shown: false };
  }
  const scale = LONGEST / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return { blob: file, shown: true };
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // under transparency, as on the server; JPEG's own would be black
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  return { blob: blob ?? file, shown: true };
}

async function post(address, blob) {
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  let response;
  try {
    response = await fetch(address, { method: "POST", headers: { "Content-Type": type }, body: blob });
  } catch {
    throw new Error("no response from the server; is it still running?");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw Object.assign(new Error(error ?? `the server returned status ${response.status}`), { status: response.status });
}

function showPhoto(blob, caption, shown) {
  setImage(at("original"), shown ? blob : null);
  setImage(at("overlay"), null);
  at("original").alt = caption ? `Example photo, ${caption}` : "Your photo";
  at("caption").textContent = shown ? caption || "Your photo" : "This browser cannot show this kind of photo";
  at("reason").textContent = "";
  page.classList.add("shown");
  const gentle = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  at("images").scrollIntoView({ block: "nearest", behavior: gentle });
}

function show({ label, probability, unsure, best }) {
  const strong = element("strong", { textContent: label });
  at("label").replaceChildren(strong, ` Probability ${percent(probability)}`);
  at("low").hidden = !unsure;
  at("prediction").classList.toggle("low-confidence", unsure);
  at("best").replaceChildren(...best.map((row) => line(row)));
  note();
  explain(label);
}

function line({ label, probability }) {
  const bar = element("span", { className: "bar", ariaHidden: "true" }, element("i", {}));
  bar.style.setProperty("--share", probability);
  const button = element(
    "button",
    { type: "button", disabled: unexplained, ariaPressed: "false", onclick: () => explain(label) },
    element("span", { className: "name", textContent: label }),
    element("span", { className: "value", textContent: percent(probability) }),
    bar,
  );
  button.dataset.label = label;
  return element("li", {}, button);
}

// The overlay comes after the prediction, because it takes longer.
async function explain(label) {
  if (unexplained) return;
  const mine = ++view;
  press("#best button", [...at("best").querySelectorAll("button")].find((button) => button.dataset.label === label));
  at("reason").textContent = `Computing the regions that support ${label} …`;
  page.classList.add("waiting");
  try {
    const overlay = await (await post(`explain?label=${encodeURIComponent(label)}`, photo)).blob();
    if (mine !== view) return;
    setImage(at("overlay"), overlay);
    at("overlay").alt = `The photo in grey, the regions that support ${label} in colour`;
    at("reason").textContent = `Regions that support ${label}`;
  } catch (error) {
    if (mine !== view) return;
    if (error.status === 404 || error.status === 409) withoutOverlays();
    else at("reason").textContent = error.message;
  } finally {
    if (mine === view) page.classList.remove("waiting");
  }
}

function withoutOverlays() {
  unexplained = true;
  page.classList.add("no-overlay");
  at("switch").checked = false;
  for (const button of at("best").querySelectorAll("button")) {
    button.disabled = true;
    button.ariaPressed = null;
  }
  note();
}

function note() {
  const lines = [];
  if (!isNaN(threshold)) lines.push(`Below ${percent(threshold)} a prediction has low confidence.`);
  if (!unexplained) lines.push("Choose a class to see the regions that support it.");
  at("note").textContent = lines.join(" ");
  at("note").hidden = !lines.length;
}

function clear() {
  page.classList.remove("shown", "waiting");
  setImage(at("original"), null);
  setImage(at("overlay"), null);
  press("#strip button");
  at("label").textContent = "No prediction.";
  at("best").replaceChildren();
  at("low").hidden = at("note").hidden = true;
}

function report(reason) {
  at("error").hidden = reason === null;
  at("error").textContent = reason ?? "";
  if (reason !== null) at("error").scrollIntoView({ block: "nearest" });
}

function setImage(image, blob) {
  if (image.src) URL.revokeObjectURL(image.src);
  if (blob) image.src = URL.createObjectURL(blob);
  else image.removeAttribute("src");
}

function press(selector, chosen) {
  for (const button of document.querySelectorAll(selector)) button.ariaPressed = String(button === chosen);
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function percent(share) {
  if (share > 0.999) return ">\u00a099.9\u00a0%";
  return share < 0.001 ? "<\u00a00.1\u00a0%" : `${(100 * share).toFixed(1)}\u00a0%`;
}

async function listExamples() {
  const listed = await fetch("examples").then((response) => (response.ok ? response.json() : [])).catch(() => []);
  at("examples").hidden = !listed.length;
  at("strip").replaceChildren(...listed.map(({ url, label }) => {
    const image = element("img", { src: url, alt: `Example: ${label}`, loading: "lazy", draggable: false });
    const button = element("button", { type: "button", ariaPressed: "false" }, image);
    button.onclick = () => classify(example(url), `labelled ${label}`, button);
    return element("li", {}, button);
  }));
}

async function example(url) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new Error("the server does not have this example any more");
  return response.blob();
}

for (const input of [at("file"), at("camera")]) {
  input.onchange = () => {
    if (input.files.length) classify(input.files[0]);
    input.value = ""; // so that the same photo can be chosen again
  };
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  page.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) page.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  page.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) classify(file);
  else report("this is not a file; save the image first, or copy and paste it");
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) classify(file);
});

listExamples();
