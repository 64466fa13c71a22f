// Runs the explainer beside the page, so that the page never stands still.

import { Explainer } from "./explainer.mjs";

const explainer = (async () => {
  const [settings, model] = await Promise.all([
    fetch("settings.json").then((answer) => answer.json()),
    fetch("explainer.onnx").then((answer) => answer.arrayBuffer()),
  ]);
  return Explainer.load(new Uint8Array(model), settings.input);
})();

self.onmessage = async ({ data: { id, image, target, share } }) => {
  try {
    self.postMessage({ id, ...(await (await explainer).run(image, target, share)) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
