// From a picture's pixels to the model's input, and from relevance to a picture.

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    reach: 2,
    // Keys' cubic with a = -0.5
    weight: (signed) => {
      const x = Math.abs(signed);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
};

/** For each of `to` places: the first of the `from` pixels that count, and their weights. */
function weightsOf(from, to, filter) {
  const step = from / to;
  const stretch = Math.max(1, step); // the filter widens where the picture shrinks
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * step;
    const begin = Math.max(0, Math.floor(centre - filter.reach * stretch + 0.5));
    const end = Math.min(from, Math.floor(centre + filter.reach * stretch + 0.5));
    const weights = [];
    for (let i = begin; i < end; i++) weights.push(filter.weight((i + 0.5 - centre) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { begin, weights: weights.map((weight) => weight / sum) };
  });
}

/** RGBA pixels of another size. Rounds to 8 bits after each direction, as photo libraries do. */
export function resized(pixels, width, height, newWidth, newHeight, interpolation) {
  const filter = FILTERS[interpolation];
  const across = weightsOf(width, newWidth, filter);
  const between = new Uint8ClampedArray(newWidth * height * 4);
  for (let y = 0; y < height; y++)
    across.forEach(({ begin, weights }, x) => {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++)
          sum += weights[i] * pixels[(y * width + begin + i) * 4 + c];
        between[(y * newWidth + x) * 4 + c] = sum;
      }
    });
  const result = new Uint8ClampedArray(newWidth * newHeight * 4);
  weightsOf(height, newHeight, filter).forEach(({ begin, weights }, y) => {
    for (let x = 0; x < newWidth * 4; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++)
        sum += weights[i] * between[(begin + i) * newWidth * 4 + x];
      result[y * newWidth * 4 + x] = sum;
    }
  });
  return result;
}

/** Resizes the shorter side and crops a square from the centre. Returns RGBA of crop x crop. */
export function cropped({ data, width, height }, { resize, crop, interpolation }) {
  const shorter = Math.min(width, height);
  const wide = width === shorter ? resize : Math.trunc((resize * width) / height);
  const high = height === shorter ? resize : Math.trunc((resize * height) / width);
  const whole =
    wide === width && high === height ? data : resized(data, width, height, wide, high, interpolation);
  // half to even, as Python rounds
  const half = (size) => {
    const exact = (size - crop) / 2;
    const below = Math.floor(exact);
    return exact - below === 0.5 ? below + (below % 2) : Math.round(exact);
  };
  const [left, top] = [half(wide), half(high)];
  const result = new Uint8ClampedArray(crop * crop * 4);
  for (let y = 0; y < crop; y++) {
    const begin = ((top + y) * wide + left) * 4;
    result.set(whole.subarray(begin, begin + crop * 4), y * crop * 4);
  }
  return result;
}

/** The model's input (1, 3, H, W) for RGBA pixels. */
export function normalized(pixels, { mean, std }) {
  const count = pixels.length / 4;
  const input = new Float32Array(3 * count);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < count; i++)
      input[c * count + i] = (pixels[i * 4 + c] / 255 - mean[c]) / std[c];
  return input;
}

/** Relevance (1, C, H, W) summed over the channels. */
export function heatmap(relevance, count) {
  const heat = new Float64Array(count);
  for (let i = 0; i < relevance.length; i++) heat[i % count] += relevance[i];
  return heat;
}

/** The |R| of full colour: the quantile of the values that are not zero. */
export function colorLimit(heat, quantile = 0.995) {
  const sizes = heat.filter((value) => value !== 0).map(Math.abs).sort();
  if (!sizes.length) return 1;
  const place = (sizes.length - 1) * quantile;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sizes.length - 1);
  return sizes[below] + (sizes[above] - sizes[below]) * (place - below);
}

/**
 * RGBA pixels of a map.
 *
 * @param {Float64Array} heat
 * @param {number[][]} colors from -1 to 1, an odd number of RGB triples
 * @param {Uint8ClampedArray|null} photograph RGBA, under the colours in grey; null for the map alone
 */
export function drawn(heat, colors, photograph) {
  const limit = colorLimit(heat);
  const result = new Uint8ClampedArray(heat.length * 4);
  heat.forEach((value, i) => {
    const share = Math.max(-1, Math.min(1, value / limit));
    const color = colors[Math.round(((share + 1) / 2) * (colors.length - 1))];
    const part = photograph ? Math.min(1, 2 * Math.abs(share)) : 1;
    const grey = photograph
      ? 0.299 * photograph[i * 4] + 0.587 * photograph[i * 4 + 1] + 0.114 * photograph[i * 4 + 2]
      : 0;
    for (let c = 0; c < 3; c++) result[i * 4 + c] = color[c] * part + grey * (1 - part);
    result[i * 4 + 3] = 255;
  });
  return result;
}
