// Shared components, drawn to HTML as a server would: what they say and to whom. How they look and behave is for web/e2e.

import { createRawSnippet, type Component } from 'svelte';
import { render } from 'svelte/server';
import { describe, expect, test } from 'vitest';

import SeverityBadge from '../features/logs/SeverityBadge.svelte';
import { ApiError } from '../api/errors';
import BarTable from './BarTable.svelte';
import Chevron from './Chevron.svelte';
import DataTable from './DataTable.svelte';
import NumberStrip from './NumberStrip.svelte';
import Page from './Page.svelte';
import Panel from './Panel.svelte';
import ScrollBox from './ScrollBox.svelte';
import Strip from './Strip.svelte';

/** HTML of a component without marks of the framework, names of scoped styles and space between elements. */
function html<P extends object>(component: Component<P>, props: NoInfer<P>): string {
  return render(component as unknown as Component<object>, { props })
    .body.replace(/<!--.*?-->/gs, '')
    .replace(/ svelte-[a-z0-9]+|(?<=")svelte-[a-z0-9]+ ?/g, '')
    .replace(/ class="\s*"/g, '')
    .replace(/class="\s+/g, 'class="')
    .replace(/>\s+</g, '><')
    .replace(/\s+(?=<\/td>)|(?<=<td[^>]*>)\s+/g, '');
}
const content = createRawSnippet(() => ({ render: () => '<b>content</b>' }));
const query = { data: undefined as unknown, error: undefined as ApiError | undefined, isLoading: false, isStale: false };
const failed = new ApiError('too_long', 'the range is too long', 'choose a shorter range');
/** Texts between the tags of a name. */
const texts = (markup: string, tag: string): string[] => [...markup.matchAll(new RegExp(`<${tag}\\b[^>]*>(.*?)</${tag}>`, 'g'))].map((match) => match[1] ?? '');

describe('DataTable', () => {
  const columns = [{ label: 'Step', width: '50%', isWrapped: true }, { label: 'Events', isNumber: true }];
  const shown = html(DataTable, { label: 'Steps', columns, rows: [['/cart', '3'], ['<b>', '4']], keys: ['a', 'b'], testId: 'steps', maxHeight: 180 });

  test('is a named box that the keyboard reaches, around a table with heads of columns', () => {
    expect(shown).toMatch(/<div class="scroll" tabindex="0" role="region" aria-label="Steps" style="max-height: 180px;?">/);
    expect(shown).toContain('<table data-testid="steps">');
    expect(shown.match(/<th scope="col"/g)).toHaveLength(2);
  });
  test('what a cell says stays text', () => expect(texts(shown, 'td')).toEqual(['/cart', '3', '&lt;b>', '4']));
  test('numbers are marked, and so are short cells, unless their column may be broken', () => {
    const classes = [...shown.matchAll(/<td(?: class="([^"]*)")?/g)].map((match) => match[1] ?? '');
    expect(classes).toEqual(['', 'number short', '', 'number short']);
    const long = html(DataTable, { label: 'x', columns: [{ label: 'a' }], rows: [['x'.repeat(40)], ['x'.repeat(41)]] });
    expect([...long.matchAll(/<td(?: class="([^"]*)")?/g)].map((match) => match[1] ?? '')).toEqual(['short', '']);
  });
  test('a cell can be drawn in another way, knowing its place', () => {
    const cell = createRawSnippet((row: () => number, column: () => number, text: () => string) => ({ render: () => `<a href="#">${row()}.${column()} ${text()}</a>` }));
    expect(texts(html(DataTable, { label: 'x', columns, rows: [['a', 'b'], ['c', 'd']], cell }), 'a')).toEqual(['0.0 a', '0.1 b', '1.0 c', '1.1 d']);
  });
  test('without rows it says so over all columns, or nothing', () => {
    expect(html(DataTable, { label: 'x', columns, rows: [], emptyText: 'none is open' })).toContain('<td colspan="2" class="muted">none is open</td>');
    expect(html(DataTable, { label: 'x', columns, rows: [] })).not.toContain('<td');
  });
});

describe('BarTable', () => {
  const rows = [{ key: '/pay', share: 0.5, cells: ['/pay', '3', '50 %'] }, { key: '/', share: 0, cells: ['/', '0', '0 %'] }];
  const shown = html(BarTable, { label: 'Top routes', columns: ['Route', 'Count', 'Share'], rows, color: '--cat-1', testId: 'top' });

  test('is a named table whose cells can be read without the bars', () => {
    expect(shown).toContain('<table aria-label="Top routes" data-testid="top">');
    expect(texts(shown, 'th')).toEqual(['Route', 'Count', 'Share']);
    expect(texts(shown, 'span')).toEqual(['/pay', '3', '50 %', '/', '0', '0 %']);
  });
  test('each row has one bar, as long as its share', () => {
    expect([...shown.matchAll(/width: ([\d.]+%); background: var\((--[a-z0-9-]+)\)/g)].map((match) => [match[1], match[2]])).toEqual([['50%', '--cat-1'], ['0%', '--cat-1']]);
  });
});

describe('NumberStrip', () => {
  test('names, numbers and notes are one list of terms', () => {
    const shown = html(NumberStrip, { numbers: [{ label: 'p99', value: '12 ms', note: '9 ms so far' }, { label: 'errors', value: '–', note: '' }] });
    expect(texts(shown, 'dt')).toEqual(['p99', 'errors']);
    expect(texts(shown, 'dd')).toEqual(['12 ms', '9 ms so far', '–', '']);
  });
  test('a sign is for the eye alone, a name may lead somewhere, a title explains', () => {
    const shown = html(NumberStrip, { numbers: [{ label: 'dead letters', value: '1', sign: '+', href: '?view=dead-letters', title: 'Kept with the reason', tone: 'muted' }] });
    expect(shown).toContain('<span class="sign" aria-hidden="true">+</span>1');
    expect(shown).toContain('<dt><a href="?view=dead-letters">dead letters</a></dt>');
    expect(shown).toContain('<div class="muted" title="Kept with the reason">');
  });
  test('without a note no place is kept for one', () => expect(texts(html(NumberStrip, { numbers: [{ label: 'a', value: '1' }] }), 'dd')).toEqual(['1']));
});

describe('Strip', () => {
  const strip = (change: Partial<typeof query>, isUrgent = false): string =>
    html(Strip, { label: 'Now', query: { ...query, ...change }, loadingText: 'Reading…', minHeight: 62, isUrgent, children: content });

  test('loads, shows, and fails under its name', () => {
    expect(strip({})).toMatch(/^<section class="strip" aria-label="Now" data-state="loading" style="min-height: 62px;?"><p class="muted">Reading…<\/p><\/section>$/);
    expect(strip({ data: [] })).toContain('data-state="ready"');
    expect(strip({ data: [] })).toContain('<div class="body"><b>content</b></div>');
    const broken = strip({ error: failed });
    expect(broken).toContain('data-state="error"');
    expect(broken).toContain('role="alert"');
    expect(broken).not.toContain('Reading');
  });
  test('what was answered stays beside an error, and is dim while it answers an earlier question', () => {
    expect(strip({ data: [], error: failed })).toContain('<b>content</b>');
    expect(strip({ data: [], isStale: true })).toContain('class="body stale"');
  });
  test('can want to be looked at', () => expect(strip({ data: [] }, true)).toContain('class="strip urgent"'));
});

describe('Panel', () => {
  const panel = (change: Partial<typeof query>, isEmpty = false): string =>
    html(Panel, { title: 'Top', query: { ...query, ...change }, isEmpty, headline: '12', empty: createRawSnippet(() => ({ render: () => '<i>nothing</i>' })), children: content });
  const state = (shown: string): string | undefined => /data-state="(\w+)"/.exec(shown)?.[1];

  test('its state is that of its query', () => {
    expect([panel({}), panel({ data: 1 }), panel({ data: 1 }, true), panel({ error: failed })].map(state)).toEqual(['loading', 'ready', 'empty', 'error']);
    expect(panel({ isLoading: true })).toContain('aria-busy="true"');
  });
  test('headline and content are shown with data alone', () => {
    expect(panel({ data: 1 })).toMatch(/headline.*12.*<b>content<\/b>/);
    expect(panel({ data: 1 }, true)).not.toMatch(/headline|content/);
    expect(panel({ data: 1 }, true)).toContain('<i>nothing</i>');
    expect(panel({})).toContain('Loading Top');
  });
  test('is named by its heading', () => {
    const [, id] = /aria-labelledby="([^"]+)"/.exec(panel({})) ?? [];
    expect(id).toBeDefined();
    expect(panel({})).toContain(`<h2 id="${id}">Top</h2>`);
  });
});

test('a page has one heading of the first level', () => expect(texts(html(Page, { title: 'Logs', children: content }), 'h1')).toEqual(['Logs']));
test('a box without a limit is as high as its content', () => expect(html(ScrollBox, { label: 'x', children: content })).not.toContain('max-height'));
test('the arrow turns as its row opens, and is silent', () => {
  expect(html(Chevron, { isOpen: true })).toMatch(/aria-hidden="true" class="open"/);
  expect(html(Chevron, { isOpen: false })).not.toContain('open');
});
test('a severity that is none of the four is drawn as the least', () => {
  expect(html(SeverityBadge, { severity: 'error' })).toContain('var(--sev-error)');
  expect(html(SeverityBadge, { severity: 'odd' })).toContain('var(--sev-debug)');
  expect(html(SeverityBadge, { severity: null })).toContain('–');
});
