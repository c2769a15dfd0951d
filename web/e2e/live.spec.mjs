// End-to-end test of the web UI against a running sawlog that holds recent data.
//
//   node web/e2e/live.spec.mjs http://localhost:7070
//   node web/e2e/live.spec.mjs http://localhost:7070 --key KEY     only: a server that wants a key
//
// It sends three logs of its own (with a marker to search for, and hostile text), then only reads.

import { assert, baseUrl, check, checkAxe, eventually, openPage, options, panel, run, shoot } from './harness.mjs';

const PANELS = ['Events', 'User activity', 'Requests', 'Error ratio', 'Latency', 'Errors by service', 'Sessions', 'Top', 'Host CPU', 'Host memory', 'Host disk', 'Logs'];

const marker = `e2e${Date.now().toString(36)}`;
const HOSTILE = [
  `<script>window.__pwned = 1</script> ${marker}`,
  `<img src=x onerror="window.__pwned = 2"> ${marker}`,
  `"><svg onload=window.__pwned=3> javascript:window.__pwned=4 ${marker}`,
];

const DEPLOY_NOTE = '<b>faster</b>';

async function sendLogs() {
  const events = HOSTILE.map((message, index) => ({
    timestamp: new Date().toISOString(),
    severity: index === 0 ? 'ERROR' : 'INFO',
    message,
    service: 'e2e-<b>web</b>',
    insert_id: `${marker}-${index}`,
    labels: { html: '<img src=x onerror="window.__pwned = 5">', nested: '{"a":{"b":[1,2]}}' },
  }));
  // Announced a minute ago, so that its mark is inside every chart.
  const announced = new Date(Date.now() - 60_000).toISOString();
  events.push({ timestamp: announced, event: 'deploy', service: 'e2e', version: '7', message: DEPLOY_NOTE, insert_id: `${marker}-deploy` });
  const response = await fetch(`${baseUrl}/v1/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson', 'x-sawlog-ack': 'disk' },
    body: events.map((event) => `${JSON.stringify(event)}\n`).join(''),
  });
  assert(response.ok, `POST /v1/events answered ${response.status}: ${await response.text()}`);
}

const rows = (page) => page.getByTestId('log-row');
const messages = (page) => rows(page).locator('.message').allInnerTexts();

async function checkLive(browser, scheme) {
  const { context, page, response, settle } = await openPage(browser, scheme, '/?range=15m');

  await check(`[${scheme}] the page opens with a strict CSP`, async () => {
    assert(response?.ok(), `status ${response?.status()}`);
    const policy = response.headers()['content-security-policy'] ?? '';
    assert(/default-src '(self|none)'/.test(policy) && !/unsafe-(inline|eval)/.test(policy), `policy is "${policy}"`);
    assert((await page.title()).includes('Sawlog'), 'title');
    await eventually('the theme', async () => (await page.evaluate(() => document.documentElement.dataset.theme)) === scheme);
  });
  for (const title of PANELS) {
    await check(`[${scheme}] panel "${title}" shows data`, () =>
      eventually(`"${title}" to be ready`, async () => (await panel(page, title).getAttribute('data-state')) === 'ready'));
  }
  await check(`[${scheme}] the ledger closes`, () => eventually('"closes"', () => page.getByText('closes ✓').isVisible()));
  await check(`[${scheme}] health is shown`, () => eventually('"ready"', () => page.getByRole('status').filter({ hasText: 'ready' }).isVisible()));
  await check(`[${scheme}] deploys are marks of the charts and a column of their tables`, async () => {
    const flags = panel(page, 'Events').locator('.flag');
    await eventually('the deploy', async () => (await flags.evaluateAll((found) => found.map((flag) => flag.title).join('\n'))).includes(`e2e 7 deployed: ${DEPLOY_NOTE}`));
    assert((await panel(page, 'Latency').locator('.flag').count()) > 0, 'no marks in another chart');
    const button = page.getByRole('button', { name: 'Show Latency as a table' });
    await button.click();
    await eventually('the column', async () => (await panel(page, 'Latency').locator('table').innerText()).includes('e2e 7 deployed'));
    await button.click();
  });
  await check(`[${scheme}] log rows are shown`, () => eventually('rows', async () => (await rows(page).count()) > 0));
  await shoot(page, `live-${scheme}`);
  await checkAxe(page, `live, ${scheme}`);

  await check(`[${scheme}] "/" leads to the search, which filters the rows and the URL`, async () => {
    await page.keyboard.press('/');
    await page.keyboard.type(marker);
    await eventually('only marked rows', async () => {
      const texts = await messages(page);
      return texts.length === HOSTILE.length && texts.every((text) => text.includes(marker));
    });
    assert(new URL(page.url()).searchParams.get('q') === marker, page.url());
    assert((await rows(page).locator('mark').count()) >= HOSTILE.length, 'no highlighting');
    await page.keyboard.press('Escape');
    assert(await page.evaluate(() => document.activeElement === document.body), 'Esc does not leave the search box');
  });
  await check(`[${scheme}] a row opens to all its fields`, async () => {
    await page.keyboard.press('j');
    await page.keyboard.press('x');
    const detail = page.getByTestId('log-detail');
    await eventually('the fields', () => detail.isVisible());
    const text = await detail.innerText();
    for (const expected of ['event_time', 'severity_class', 'attributes.', marker]) assert(text.includes(expected), `no ${expected} in: ${text.slice(0, 400)}`);
  });
  await check(`[${scheme}] hostile text stays text`, async () => {
    const texts = (await messages(page)).join('\n');
    for (const message of HOSTILE) assert(texts.includes(message), `not shown literally: ${message}`);
    const made = await page.evaluate(() => document.querySelectorAll('[data-testid=log-rows] :is(script, img, iframe, b), [data-testid=log-rows] svg[onload]').length);
    assert(made === 0, `${made} elements were made from log text`);
    assert((await page.evaluate(() => window.__pwned)) === undefined, 'log text was executed');
  });
  await shoot(page, `logs-${scheme}`);
  await checkAxe(page, `open log, ${scheme}`);

  await check(`[${scheme}] severity chips include and exclude`, async () => {
    const chip = page.getByRole('group', { name: 'Severity' }).getByRole('button', { name: /error/ });
    await chip.click();
    await eventually('one row', async () => (await rows(page).count()) === 1);
    assert(page.url().includes('is=severity_class%3Aerror'), page.url());
    await chip.click();
    await chip.click({ modifiers: ['Shift'] });
    await eventually('the other rows', async () => (await rows(page).count()) === HOSTILE.length - 1);
    await page.getByRole('button', { name: 'Clear all' }).click();
    await eventually('more rows', async () => (await rows(page).count()) > 0 && !page.url().includes('q='));
  });
  await check(`[${scheme}] a chart can be read as a table`, async () => {
    const button = page.getByRole('button', { name: 'Show Events as a table' });
    await eventually('the button', () => button.isVisible());
    await button.click();
    await eventually('table rows', async () => (await panel(page, 'Events').locator('tbody tr').count()) > 5);
    await button.click();
  });
  await check(`[${scheme}] dragging over a chart zooms, the range can be left again`, async () => {
    const plot = panel(page, 'Events').locator('.u-over');
    await plot.scrollIntoViewIfNeeded();
    const box = await eventually('the plot', () => plot.boundingBox());
    await page.mouse.move(box.x + box.width * 0.6, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2, { steps: 5 });
    await page.mouse.up();
    await eventually('from and to in the URL', () => /from=.*to=/.test(page.url()));
    await page.getByRole('button', { name: /leave this range/ }).click();
    await eventually('the live range', () => page.url().includes('range=15m'));
  });
  await check(`[${scheme}] no console error, CSP violation or external request`, async () => {
    const trouble = await settle();
    assert(trouble.length === 0, trouble.join('\n'));
  });
  await context.close();
}

async function checkOtherPages(browser, scheme) {
  const { context, page, settle } = await openPage(browser, scheme, '/?view=sql');
  await check(`[${scheme}] the SQL page runs a query with Ctrl-Enter`, async () => {
    await page.getByLabel('SQL query').fill('SELECT count(*) AS n FROM logs');
    await page.keyboard.press('Control+Enter');
    await eventually('a result', () => page.getByTestId('sql-result').isVisible());
    assert((await page.getByTestId('sql-result').locator('tbody td').innerText()).trim() !== '0', 'no logs');
  });
  await shoot(page, `sql-${scheme}`);
  await checkAxe(page, `SQL, ${scheme}`);
  await check(`[${scheme}] links change the page without a reload`, async () => {
    await page.evaluate(() => (window.__sameDocument = true));
    await page.getByRole('link', { name: 'Dead letters', exact: true }).first().click();
    await eventually('the dead letters', async () => ['ready', 'empty'].includes((await panel(page, 'Dead letters').getAttribute('data-state')) ?? ''));
    assert(await page.evaluate(() => window.__sameDocument === true), 'the page was loaded again');
  });
  await shoot(page, `dead-letters-${scheme}`);
  await checkAxe(page, `dead letters, ${scheme}`);
  await check(`[${scheme}] the other pages cause no trouble`, async () => {
    const trouble = await settle();
    assert(trouble.length === 0, trouble.join('\n'));
  });
  await context.close();
}

async function checkFilters(browser) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.goto(`${baseUrl}/?view=logs&range=15m`);
  const box = page.getByLabel('Filter logs');
  await eventually('rows', async () => (await rows(page).count()) > 0);
  await check('a filter finds by field, severity and attribute', async () => {
    await box.fill(`${marker} severity>=error html:*onerror*`);
    await eventually('the one error', async () => (await rows(page).count()) === 1);
    await box.fill(`${marker} -severity:error`);
    await eventually('the others', async () => (await rows(page).count()) === HOSTILE.length - 1);
  });
  await check('a mistake is shown at its place with a remedy, and the rows stay', async () => {
    await box.fill(`${marker} status:abc`);
    const mistake = page.locator('#log-search-mistake');
    await eventually('the mistake', () => mistake.isVisible());
    assert((await mistake.locator('mark').innerText()) === 'abc', await mistake.innerText());
    assert((await mistake.innerText()).includes('write a number'), await mistake.innerText());
    assert((await rows(page).count()) === HOSTILE.length - 1, 'the rows went away');
    assert(!page.url().includes('abc'), page.url());
  });
  await check('fields and their values can be clicked', async () => {
    await box.fill(marker);
    await page.getByText('Fields and examples').click();
    const service = page.getByTestId('fields').locator('li').filter({ has: page.getByRole('button', { name: 'service', exact: true }) });
    await eventually('the field', () => service.isVisible());
    await eventually('its value alone', async () => (await service.locator('.chip').count()) === 1);
    await shoot(page, 'filter-fields');
    await checkAxe(page, 'fields');
    await service.locator('.chip').click();
    await eventually('the filter in the URL', () => page.url().includes('is=service'));
    await page.getByRole('button', { name: 'Clear all' }).click();
  });
  await check('live tail shows a log the moment it arrives', async () => {
    await box.fill('service:tail-test');
    await eventually('no rows', async () => (await rows(page).count()) === 0);
    await page.getByRole('button', { name: /^Live$/ }).click();
    const watching = page.waitForResponse((response) => response.url().includes('/v1/tail') && response.ok());
    await page.getByRole('button', { name: 'Live tail' }).click();
    await watching;
    const event = JSON.stringify({ message: `tailed ${marker}`, service: 'tail-test', level: 'warn' });
    await fetch(`${baseUrl}/v1/events`, { method: 'POST', body: event });
    await eventually('the row, though the page does not refresh', async () => (await messages(page)).some((text) => text.includes(`tailed ${marker}`)));
    await shoot(page, 'tail');
  });
  await context.close();
}

async function checkKey(browser) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.goto(`${baseUrl}/?view=logs`);
  await check('a server that wants a key asks for it', () => eventually('the form', () => page.getByText('The server wants an API key').isVisible()));
  await shoot(page, 'key');
  await check('with the key the page works, until the tab closes', async () => {
    await page.getByLabel('The server wants an API key').fill(options.key);
    await page.getByRole('button', { name: 'Use' }).click();
    await eventually('rows', async () => (await rows(page).count()) > 0);
    await page.reload();
    await eventually('rows after a reload', async () => (await rows(page).count()) > 0);
    assert((await page.evaluate(() => window.localStorage.length + document.cookie.length)) === 0, 'the key is kept elsewhere');
  });
  await context.close();
}

async function checkFailures(browser) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  const body = JSON.stringify({ error: { code: 'query_memory', message: 'the query needs more memory than it may use', hint: 'choose a shorter range' } });
  await page.route('**/v1/sql', (route) => route.fulfill({ status: 503, contentType: 'application/json', body }));
  await page.goto(`${baseUrl}/`);
  await check('a failing query shows its message and hint in each panel, never a blank page', async () => {
    await eventually('errors', async () => (await page.getByRole('alert').filter({ hasText: 'choose a shorter range' }).count()) >= PANELS.length);
    assert(await page.getByRole('navigation').isVisible(), 'the navigation is gone');
  });
  await context.close();
}

await run(async (browser) => {
  if (options.key !== undefined) return checkKey(browser);
  await check('logs can be sent', sendLogs);
  for (const scheme of ['light', 'dark']) {
    await checkLive(browser, scheme);
    await checkOtherPages(browser, scheme);
  }
  await checkFilters(browser);
  await checkFailures(browser);
});
