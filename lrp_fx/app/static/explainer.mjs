// Runs the explainer: an ONNX file with the inputs image, target and share. Browser, worker and Node.

import * as ort from "./ort.wasm.bundle.min.mjs";

export class Explainer {
  /**
   * @param {Uint8Array} model the bytes of explainer.onnx
   * @param {number[]} size of the input, [1, C, H, W]
   * @param {ArrayBuffer|Uint8Array|undefined} wasm the bytes of the runtime, where it cannot be fetched
   */
  static async load(model, size, wasm) {
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
    if (wasm) ort.env.wasm.wasmBinary = wasm;
    else ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    return new Explainer(session, size);
  }

  constructor(session, size) {
    this.session = session;
    this.size = size;
    this.guess = 0;
  }

  /**
   * Output and relevance of one input.
   *
   * @param {Float32Array} image the model's input
   * @param {number|null} target the class; null for the most probable one
   * @param {number} share what the filter keeps, 0 < share <= 1
   */
  async run(image, target, share) {
    let chosen = target ?? this.guess;
    let found = await this.once(image, chosen, share);
    if (target === null && best(found.output) !== chosen) {
      chosen = best(found.output);
      found = await this.once(image, chosen, share);
    }
    this.guess = best(found.output);
    return { ...found, target: chosen };
  }

  async once(image, target, share) {
    const names = this.session.inputNames;
    const feeds = {
      [names[0]]: new ort.Tensor("float32", image, this.size),
      target: new ort.Tensor("int64", BigInt64Array.of(BigInt(target)), [1]),
      share: new ort.Tensor("float32", Float32Array.of(share), [1]),
    };
    const results = await this.session.run(feeds);
    return { output: results.output.data, relevance: results.relevance.data };
  }
}

export function best(values) {
  let place = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[place]) place = i;
  return place;
}

export function probabilitiesOf(values, squashing) {
  return squashing === "sigmoid" ? sigmoid(values) : softmax(values);
}

function sigmoid(values) {
  return Float64Array.from(values, (value) => 1 / (1 + Math.exp(-value)));
}

function softmax(values) {
  const largest = values[best(values)];
  const powers = Float64Array.from(values, (value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}
