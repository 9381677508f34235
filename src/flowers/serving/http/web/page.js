// The page: takes a photo, asks the server that it came from what it shows, and what speaks for that.
"use strict";

const LONGEST = 1024; // pixels; the network sees fewer
const QUALITY = 0.92;
const LARGEST = 16e6; // bytes, as the server has it
const threshold = parseFloat(document.documentElement.dataset.threshold); // NaN: no answer is called unsure

const at = (id) => document.getElementById(id);
const page = document.body;

let turn = 0; // counts photos, so that the answer to an earlier one, come late, is dropped
let view = 0; // counts explanations, likewise
let photo = null; // what was sent of the present one
let unexplained = false; // the server has said that its model cannot be explained

// `source` is a file, or the promise of one.
async function ask(source, caption, button) {
  const mine = ++turn;
  view++;
  at("answer").ariaBusy = "true";
  press("#strip button", button);
  tell(null);
  let file;
  try {
    file = await source;
    const { blob, shown } = await small(file);
    if (mine !== turn) return;
    if (blob.size > LARGEST) throw new Error(`larger than ${LARGEST / 1e6} MB`);
    photo = blob;
    lay(blob, caption, shown);
    const answer = await (await post("predict", blob)).json();
    if (mine === turn) say(answer);
  } catch (error) {
    if (mine !== turn) return;
    clear();
    tell(`${file?.name ? file.name + ": " : ""}${error.message}`);
  } finally {
    if (mine === turn) at("answer").ariaBusy = "false";
  }
}

// A phone's photo has some 5 MB, of which the network sees few pixels: it is scaled down here, so that sending it
// takes no time. createImageBitmap turns it upright, as its EXIF says; the copy has no EXIF, so no place and date either.
// Smaller photos go as they are, and so does what this browser cannot read: the server can, or says why not.
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
  context.fillStyle = "white"; // under transparency, as the server has it; JPEG's own would be black
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  return { blob: blob ?? file, shown: true };
}

async function post(address, blob) {
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  let answer;
  try {
    answer = await fetch(address, { method: "POST", headers: { "Content-Type": type }, body: blob });
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(told.error ?? `the server answers with status ${answer.status}`), { status: answer.status });
}

function lay(blob, caption, shown) {
  picture(at("seen"), shown ? blob : null);
  picture(at("why"), null);
  at("seen").alt = caption ? `Example photo, ${caption}` : "Your photo";
  at("caption").textContent = shown ? caption || "Your photo" : "This browser cannot show this kind of photo";
  at("reason").textContent = "";
  page.classList.add("shown");
  const gentle = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  at("pictures").scrollIntoView({ block: "nearest", behavior: gentle });
}

function say({ label, probability, unsure, best }) {
  const strong = element("strong", { textContent: label });
  at("said").replaceChildren(strong, ` ${percent(probability)} probable`);
  at("unsure").hidden = !unsure;
  at("unsure").textContent = unsure ? "Unsure: take this for a guess." : "";
  at("answer").classList.toggle("doubtful", unsure);
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

// The overlay comes after the answer: it takes a second look at the photo.
async function explain(label) {
  if (unexplained) return;
  const mine = ++view;
  press("#best button", [...at("best").querySelectorAll("button")].find((button) => button.dataset.label === label));
  at("reason").textContent = `Looking for what speaks for ${label} …`;
  page.classList.add("waiting");
  try {
    const overlay = await (await post(`explain?label=${encodeURIComponent(label)}`, photo)).blob();
    if (mine !== view) return;
    picture(at("why"), overlay);
    at("why").alt = `The photo in grey, in colour where it speaks for ${label}`;
    at("reason").textContent = `What speaks for ${label}`;
  } catch (error) {
    if (mine !== view) return;
    if (error.status === 404 || error.status === 409) forgo();
    else at("reason").textContent = error.message;
  } finally {
    if (mine === view) page.classList.remove("waiting");
  }
}

function forgo() {
  unexplained = true;
  page.classList.add("no-why");
  at("switch").checked = false;
  for (const button of at("best").querySelectorAll("button")) {
    button.disabled = true;
    button.ariaPressed = null;
  }
  note();
}

function note() {
  const lines = [];
  if (!isNaN(threshold)) lines.push(`Below ${percent(threshold)} an answer is called unsure.`);
  if (!unexplained) lines.push("Choose a flower to see what speaks for it.");
  at("note").textContent = lines.join(" ");
  at("note").hidden = !lines.length;
}

function clear() {
  page.classList.remove("shown", "waiting");
  picture(at("seen"), null);
  picture(at("why"), null);
  press("#strip button");
  at("said").textContent = "No answer.";
  at("best").replaceChildren();
  at("unsure").hidden = at("note").hidden = true;
}

function tell(reason) {
  at("error").hidden = reason === null;
  at("error").textContent = reason ?? "";
  if (reason !== null) at("error").scrollIntoView({ block: "nearest" });
}

function picture(image, blob) {
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
  const listed = await fetch("examples").then((answer) => (answer.ok ? answer.json() : [])).catch(() => []);
  at("examples").hidden = !listed.length;
  at("strip").replaceChildren(...listed.map(({ url, label }) => {
    const image = element("img", { src: url, alt: `Example: ${label}`, loading: "lazy", draggable: false });
    const button = element("button", { type: "button", ariaPressed: "false" }, image);
    button.onclick = () => ask(example(url), `labelled ${label}`, button);
    return element("li", {}, button);
  }));
}

async function example(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Error("this example cannot be had from the server");
  return answer.blob();
}

for (const input of [at("file"), at("camera")]) {
  input.onchange = () => {
    if (input.files.length) ask(input.files[0]);
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
  if (file) ask(file);
  else tell("what was dropped is no file; save the picture first, or copy and paste it");
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) ask(file);
});

listExamples();
