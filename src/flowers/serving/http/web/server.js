// Predictions and overlays from the page's own server.
"use strict";

const LONGEST = 1024; // pixels; the network's input is smaller
const QUALITY = 0.92;
const LARGEST = 16e6; // bytes, the server's limit

const predictor = {
  prepare: async (file) => {
    const found = await small(file);
    if (found.blob.size > LARGEST) throw new Error(`larger than ${LARGEST / 1e6} MB`);
    return found;
  },
  predict: async (blob) => (await post("predict", blob)).json(),
  explain: async (blob, label) => (await post(`explain?label=${encodeURIComponent(label)}`, blob)).blob(),
  typical: (label) => `typical?label=${encodeURIComponent(label)}`,
  examples: () => fetch("examples").then((response) => (response.ok ? response.json() : [])).catch(() => []),
};

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
