// A small report for the tests of the page's code.
import { Chunks } from "../../templates/gallery/src/data/chunks";
import { Dataset } from "../../templates/gallery/src/data/dataset";
import type { MethodFacts, Report, Summary } from "../../templates/gallery/src/data/types";

export function method(key: string, more: Partial<MethodFacts> = {}): MethodFacts {
  return {
    key,
    name: key,
    family: "gradient",
    classSpecific: true,
    signed: false,
    linear: false,
    perLayer: true,
    onInput: false,
    fuses: false,
    alike: [],
    like: "",
    ...more,
  };
}

/** A summary without anything in it. */
const NOTHING: Summary = {
  headline: {},
  accuracy: null,
  first: [],
  rule: {},
  doubt: null,
  findings: [],
  cautions: [],
  confusion: null,
  confidence: { low: 0, right: [], wrong: [], unknown: [] },
  reliability: [],
  trust: [],
  means: [],
};

/** Four images of three classes; the indices have a gap where one could not be read. */
export function report(more: Partial<Report> = {}): Report {
  return {
    id: "0",
    language: "en",
    folder: false,
    perChunk: 25,
    perOverview: 500,
    glance: { method: "grad_cam", layer: "features.12" },
    classes: ["cat", "dog", "fox"],
    layers: ["features.0", "features.12"].map((address) => ({
      address,
      name: address,
      type: "ReLU",
      alike: [],
    })),
    fused: false,
    input: false,
    methods: [
      method("grad_cam", { alike: ["hires_cam"] }),
      method("hires_cam", { like: "grad_cam" }),
      method("layer_cam"),
    ],
    opposite: false,
    ranks: 2,
    sameClasses: [0, 1],
    channels: [],
    contributions: null,
    peaks: { grad_cam: 2, layer_cam: 8 },
    opacity: 90,
    colormaps: ["inferno", "viridis"],
    tables: {},
    structure: { printed: "", modules: [], more: 0 },
    images: {
      index: [0, 1, 3, 4],
      file: ["b10.jpg", "b9.jpg", "Ape.jpg", "none.jpg"],
      size: [
        [4, 3],
        [4, 3],
        [4, 3],
        [4, 3],
      ],
      sha256: [],
      label: [0, 1, 1, null],
      true: [],
      top: [[[1, 0.9]], [[1, 0.6]], [[0, 0.7]], []],
      numbers: {},
      sampled: { places: [], numbers: {} },
    },
    prose: {},
    languages: { en: "English", zh: "中文" },
    strings: {},
    summary: NOTHING,
    evidence: null,
    atlas: [],
    comparison: null,
    ...more,
  };
}

export const dataset = (more: Partial<Report> = {}) => new Dataset(report(more), new Chunks());
