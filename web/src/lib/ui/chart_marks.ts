// Marks of moments and stretches of a time chart: where they stand and which of them stand together.
//
// For: pure positions. Not for: drawing (ChartMarks.svelte, ChartSpans.svelte) or what a mark means. Invariant: every mark
// within the chart's span is in exactly one group, and groups are in the order of time; stretches do not overlap.

export interface ChartMark {
  readonly seconds: number;
  readonly label: string;
}

/** A stretch of time that is marked, `[fromSeconds, toSeconds)`. */
export interface ChartSpan {
  readonly fromSeconds: number;
  readonly toSeconds: number;
  readonly label: string;
}

/** The part of a chart that is plotted in, in CSS pixels of the chart. */
export interface PlotFrame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface MarkGroup {
  /** Distance from the chart's left, CSS pixels. */
  readonly x: number;
  readonly labels: readonly string[];
}

/** Marks closer than this are drawn as one. */
const APART_PX_MIN = 8;
/** More labels of one group are counted, not shown. */
const LABELS_MAX = 8;

export function groupMarks(marks: readonly ChartMark[], fromSeconds: number, toSeconds: number, frame: PlotFrame): MarkGroup[] {
  const inside = marks.filter((mark) => mark.seconds >= fromSeconds && mark.seconds <= toSeconds);
  const groups: { x: number; labels: string[] }[] = [];
  for (const mark of inside.toSorted((one, other) => one.seconds - other.seconds)) {
    const x = frame.left + ((mark.seconds - fromSeconds) / (toSeconds - fromSeconds)) * frame.width;
    const last = groups.at(-1);
    if (last !== undefined && x - last.x < APART_PX_MIN) last.labels.push(mark.label);
    else groups.push({ x, labels: [mark.label] });
  }
  return groups;
}

/** The part of a stretch that is inside the chart, CSS pixels; undefined when none is. */
export function placeSpan(fromSeconds: number, toSeconds: number, shape: { readonly fromSeconds: number; readonly toSeconds: number }, frame: PlotFrame): { x: number; width: number } | undefined {
  const [from, to] = [Math.max(fromSeconds, shape.fromSeconds), Math.min(toSeconds, shape.toSeconds)];
  if (from >= to) return undefined;
  const scale = frame.width / (shape.toSeconds - shape.fromSeconds);
  return { x: frame.left + (from - shape.fromSeconds) * scale, width: (to - from) * scale };
}

/** Stretches that touch are one: an episode of many windows has one flag, with each of its labels once. */
export function joinSpans(spans: readonly ChartSpan[]): { fromSeconds: number; toSeconds: number; labels: string[] }[] {
  const joined: { fromSeconds: number; toSeconds: number; labels: string[] }[] = [];
  for (const { fromSeconds, toSeconds, label } of spans.toSorted((one, other) => one.fromSeconds - other.fromSeconds)) {
    const last = joined.at(-1);
    if (last === undefined || fromSeconds > last.toSeconds) joined.push({ fromSeconds, toSeconds, labels: [label] });
    else {
      last.toSeconds = Math.max(last.toSeconds, toSeconds);
      if (!last.labels.includes(label)) last.labels.push(label);
    }
  }
  return joined;
}

/** The labels of a group, one a line. */
export function groupText(labels: readonly string[]): string {
  const more = labels.length - LABELS_MAX;
  return [...labels.slice(0, LABELS_MAX), ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}

/** For each bin of a chart, by its start, the labels of the marks in it. */
export function labelsByBin(marks: readonly ChartMark[], times: readonly number[]): string[] {
  return times.map((start, index) => {
    const end = times[index + 1] ?? Number.POSITIVE_INFINITY;
    return marks.filter((mark) => mark.seconds >= start && mark.seconds < end).map((mark) => mark.label).join('; ');
  });
}

/** For each bin of a chart, by its start, the labels of the stretches that begin before its end and end after its start. */
export function spansByBin(spans: readonly ChartSpan[], times: readonly number[]): string[] {
  return times.map((start, index) => {
    const end = times[index + 1] ?? Number.POSITIVE_INFINITY;
    return spans.filter((span) => span.fromSeconds < end && span.toSeconds > start).map((span) => span.label).join('; ');
  });
}
