// The four severity classes and how they look.

export const SEVERITY_CLASSES = ['error', 'warning', 'info', 'debug'] as const;
export type SeverityClass = (typeof SEVERITY_CLASSES)[number];

export function severityColor(severity: string): string {
  return isSeverityClass(severity) ? `--sev-${severity}` : '--sev-debug';
}

export function severityTextColor(severity: string): string {
  return `${severityColor(severity)}-text`;
}

function isSeverityClass(text: string): text is SeverityClass {
  return (SEVERITY_CLASSES as readonly string[]).includes(text);
}
