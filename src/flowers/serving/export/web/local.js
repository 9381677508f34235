// Predictions from a network in the browser. A photo never leaves the device.
import { loadLiteRt, loadAndCompile, Tensor } from "../runtime/litert.js";
import { pixels } from "./pixels.js";

const BEST = 5;
const label = document.getElementById("label");
const hint = label.textContent;

// All is fetched once; the service worker keeps it, so that the page works offline afterwards.
const ready = load();
ready.catch((error) => (label.textContent = `The network could not be loaded: ${error.message}`));

async function load() {
  label.textContent = "Loading the network, once …";
  const [about] = await Promise.all([
    fetch("model.json").then((response) => response.json()),
    loadLiteRt(new URL("runtime/wasm/", document.baseURI).href, { threads: false }),
  ]);
  const network = await loadAndCompile(new URL("model.tflite", document.baseURI).href, { accelerator: "wasm" });
  label.textContent = hint;
  return { ...about, network };
}

globalThis.predictor = {
  explain: null,
  examples: async () => [],

  prepare: async (file) => {
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (!bitmap) throw new Error("this browser cannot read this kind of photo");
    bitmap.close();
    return { blob: file, shown: true };
  },

  predict: async (blob) => {
    const { classes, size, threshold, network } = await ready;
    const given = new Tensor(await pixels(blob, size), [1, size, size, 3]);
    await new Promise((painted) => setTimeout(painted)); // the photo shows while the network computes
    const [found] = await network.run([given]);
    const probabilities = Array.from(await found.data());
    given.delete();
    found.delete();
    const order = probabilities.map((_, number) => number).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const best = order.slice(0, BEST).map((number) => ({ label: classes[number], probability: probabilities[number] }));
    const { label, probability } = best[0];
    const unsure = threshold !== null && (probability < threshold || threshold >= 1);
    return { label, probability, unsure, best };
  },
};

// Only https and this machine's own addresses have service workers; elsewhere the page works online.
navigator.serviceWorker?.register("worker.js");
