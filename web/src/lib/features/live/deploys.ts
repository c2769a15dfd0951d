// From deploys to marks: which ones concern what is shown, and what their tooltips say.

import type { Deploy } from '../../api/deploys';
import type { Filter } from '../../state/location';
import type { ChartMark } from '../../ui/chart_marks';

const ORIGINS = { event: 'deployed', file: 'deployed', first_seen: 'first seen' } as const;

/** Marks of the deploys of the services that the filters let through. */
export function marksOf(deploys: readonly Deploy[], filters: readonly Filter[]): ChartMark[] {
  const ofService = filters.filter((filter) => filter.field === 'service');
  const isShown = (deploy: Deploy): boolean => ofService.every((filter) => (filter.value === deploy.service) !== filter.isExcluded);
  return deploys.filter(isShown).map((deploy) => ({ seconds: deploy.timeMs / 1000, label: labelOf(deploy) }));
}

function labelOf(deploy: Deploy): string {
  const what = [deploy.service, deploy.version].filter((part) => part !== null).join(' ') || 'a service';
  const description = deploy.description === null ? '' : `: ${deploy.description}`;
  return `${what} ${ORIGINS[deploy.origin]}${description}`;
}
