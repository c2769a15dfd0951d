// What the browser tests share: counted checks, waiting, a page that writes down what must not happen, axe.
//
// Command line: URL [--screenshot DIR] [--browser PATH] [--timeout SECONDS] [--key KEY]. Last line of a test: "N passed, M
// failed"; its exit code is 0 only without failures.

import { mkdir } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

import axe from 'axe-core';
import { chromium } from 'playwright-core';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { screenshot: { type: 'string' }, browser: { type: 'string' }, timeout: { type: 'string', default: '60' }, key: { type: 'string' } },
});
export const options = values;
export const baseUrl = (positionals[0] ?? 'http://localhost:7070').replace(/\/+$/, '');
const timeoutMs = Number(options.timeout) * 1000;
const browserPath = options.browser ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((file) => existsSync(file));

const BROWSER_ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

let passed = 0;
let failed = 0;

export async function check(name, run) {
  try {
    await run();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (failure) {
    failed += 1;
    console.log(`FAILED  ${name}\n        ${String(failure?.message ?? failure).split('\n').slice(0, 12).join('\n        ')}`);
  }
}

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

export async function eventually(what, probe) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${options.timeout} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

/** A page on which everything that must not happen is written down. */
export async function openPage(browser, scheme, url) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: scheme, reducedMotion: 'reduce' });
  const page = await context.newPage();
  const trouble = [];
  page.on('console', (message) => message.type() === 'error' && trouble.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => trouble.push(`page error: ${error.message}`));
  page.on('dialog', (dialog) => (trouble.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on('request', (request) => {
    const target = new URL(request.url());
    if (target.origin !== new URL(baseUrl).origin && !['data:', 'blob:'].includes(target.protocol)) trouble.push(`external request: ${request.url()}`);
  });
  await page.addInitScript(() => {
    window.__violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.__violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  const response = await page.goto(`${baseUrl}${url}`);
  const settle = async () => [...trouble, ...(await page.evaluate(() => window.__violations)).map((text) => `CSP: ${text}`)];
  return { context, page, response, settle };
}

export async function checkAxe(page, what) {
  await check(`axe finds nothing serious: ${what}`, async () => {
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(async () => {
      // A panel that is being refreshed is dimmed for a moment; what is checked is the page at rest.
      const atRest = new CSSStyleSheet();
      atRest.replaceSync('.stale { opacity: 1 !important; transition: none !important; }');
      document.adoptedStyleSheets.push(atRest);
      const results = await window.axe.run(document, { resultTypes: ['violations'] });
      document.adoptedStyleSheets.pop();
      return results;
    });
    const grave = violations.filter((violation) => violation.impact === 'serious' || violation.impact === 'critical');
    const lines = grave.map((violation) => `${violation.id}: ${violation.help} (${violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')})`);
    assert(grave.length === 0, lines.join('\n'));
  });
}

export async function shoot(page, name) {
  if (options.screenshot === undefined) return;
  await mkdir(options.screenshot, { recursive: true });
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: path.join(options.screenshot, `${name}.png`), fullPage: true });
}

export const panel = (page, title) => page.locator('section.panel').filter({ has: page.getByRole('heading', { name: title, exact: true }) });

/** Runs a test in a browser and says how it went. */
export async function run(test) {
  assert(browserPath !== undefined, 'no Chromium found: pass --browser PATH');
  const browser = await chromium.launch({ executablePath: browserPath, args: BROWSER_ARGS });
  try {
    await test(browser);
  } finally {
    await browser.close();
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}
