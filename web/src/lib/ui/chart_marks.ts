// Marks of moments in a time chart: where they stand and which of them stand together.
//
// For: pure positions. Not for: drawing (ChartMarks.svelte) or what a mark means. Invariant: every mark within the chart's
// span is in exactly one group, and groups are in the order of time.

export interface ChartMark {
  readonly seconds: number;
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
