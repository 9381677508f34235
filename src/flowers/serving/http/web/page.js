// The page: shows the prediction for a photo, then the overlay of Grad-CAM. `predictor`, which another script sets, gives
// both: server.js asks the page's own server; local.js of `flowers export web` has the network itself, and no overlays.
"use strict";

const threshold = parseFloat(document.documentElement.dataset.threshold); // NaN: the model has none

const at = (id) => document.getElementById(id);
const page = document.body;

let turn = 0; // counts photos: a response for an earlier photo is dropped
let view = 0; // counts overlays, likewise
let photo = null; // the current one, as it was sent
let unexplained = false; // the model has no explanations
let unknown = false; // the photo is of none of the classes

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
    const { blob, shown } = await predictor.prepare(file);
    if (mine !== turn) return;
    photo = blob;
    showPhoto(blob, caption, shown);
    const prediction = await predictor.predict(blob);
    if (mine === turn) show(prediction);
  } catch (error) {
    if (mine !== turn) return;
    clear();
    report(`${file?.name ? file.name + ": " : ""}${error.message}`);
  } finally {
    if (mine === turn) at("prediction").ariaBusy = "false";
  }
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

function show({ label, probability, unsure, known, nearest, best }) {
  unknown = known === false; // missing from a model that cannot tell
  const strong = element("strong", { textContent: unknown ? "Not one of the flowers it knows" : label });
  at("label").replaceChildren(strong, unknown ? "" : ` Probability ${percent(probability)}`);
  at("low").hidden = !unsure || unknown;
  at("foreign").hidden = at("nearest").hidden = !unknown;
  at("prediction").classList.toggle("low-confidence", unsure || unknown);
  at("prediction").classList.toggle("unknown", unknown);
  at("best").replaceChildren(...(unknown ? [] : best.map((row) => line(row))));
  at("nearest").replaceChildren(...(unknown ? nearest.map((name) => similar(name)) : []));
  note();
  if (!unknown) explain(label);
  else if (!unexplained) at("reason").textContent = "No regions: it is none of the classes";
}

// A class, with its most typical training image where there is one.
function similar(label) {
  const item = element("li", {});
  if (predictor.typical) {
    const image = element("img", { src: predictor.typical(label), alt: "", onerror: () => image.remove() });
    item.append(image);
  }
  item.append(element("span", { textContent: label }));
  return item;
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
    const overlay = await predictor.explain(photo, label);
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
  if (unknown) lines.push("It may still be one of them, photographed in an unusual way.");
  else if (!isNaN(threshold)) lines.push(`Below ${percent(threshold)} a prediction has low confidence.`);
  if (!unexplained && !unknown) lines.push("Choose a class to see the regions that support it.");
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
  at("low").hidden = at("foreign").hidden = at("nearest").hidden = at("note").hidden = true;
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
  const listed = await predictor.examples();
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
  if (!response?.ok) throw new Error("this example is not there any more");
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

if (!predictor.explain) withoutOverlays();
listExamples();
