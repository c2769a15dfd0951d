// An incident on the page: alert, anomaly, session and the page of one user.
//
//   node web/e2e/incident.spec.mjs http://localhost:7070
//
// The server holds hours of requests of `shop`, of which version 1.9.2 has failed for the last minutes, an alert rule
// `errors` that fires for it, and an open session of the user `u/4711` with more than a page of events
// (tests/e2e/test_page.py makes them). Only reads.

import { assert, baseUrl, check, checkAxe, eventually, openPage, panel, run, shoot } from './harness.mjs';

const USER = 'u/4711';
const EVENTS_OF_USER = 131;
const FAILURE = '<b>no stock</b><img src=x onerror="window.__pwned = 1">';

const alerts = (page) => page.getByRole('region', { name: 'Alerts', exact: true });
const entries = (page) => page.getByTestId('timeline-entry');

async function checkIncident(browser, scheme) {
  const { context, page, settle } = await openPage(browser, scheme, '/?range=1h');
  await check(`[${scheme}] the alert fires, and opens to its events`, async () => {
    const chip = alerts(page).getByRole('button', { name: /firing errors service=shop/ });
    await eventually('the alert', () => chip.isVisible());
    await chip.click();
    await eventually('its event with the reason', async () => (await alerts(page).locator('tbody').innerText()).includes('error_count / count is'));
    assert((await chip.getAttribute('aria-expanded')) === 'true', 'it does not say that it is open');
  });
  await check(`[${scheme}] the charts show what was expected, and mark what was not`, async () => {
    const chart = panel(page, 'Error ratio');
    await eventually('the band', () => chart.getByText('expected', { exact: true }).isVisible());
    await eventually('the unusual window', async () => (await chart.locator('.span').count()) > 0);
    assert((await chart.locator('.span .flag').last().getAttribute('title')).includes('%'), 'the flag does not say why');
    await chart.scrollIntoViewIfNeeded();
    // The chart moves with the time, so that the window is looked for again until the cursor meets it.
    await eventually('the reason under the cursor', async () => {
      const box = await chart.locator('.span').last().boundingBox();
      if (box !== null) await page.mouse.move(box.x + box.width / 2, box.y + 20);
      return (await chart.locator('.told').allInnerTexts()).some((text) => text.includes('expected'));
    });
    await page.getByRole('button', { name: 'Show Error ratio as a table' }).click();
    const head = await chart.locator('thead').innerText();
    assert(head.includes('Expected') && head.includes('Unusual'), head);
    assert((await chart.locator('tbody').innerText()).includes('expected'), 'the table does not say why');
    await page.getByRole('button', { name: 'Show Error ratio as a table' }).click();
  });
  await check(`[${scheme}] the window that is not complete is drawn lighter`, () => eventually('it', async () => (await panel(page, 'Requests').locator('.open').count()) === 1));
  await check(`[${scheme}] sessions and top lists lead to the user`, async () => {
    await eventually('the open session', async () => (await page.getByTestId('open-sessions').innerText()).includes('/cart → /pay'));
    await panel(page, 'Top').getByRole('tab', { name: 'Routes' }).focus();
    await page.keyboard.press('ArrowRight');
    const link = page.getByTestId('top').getByRole('link', { name: USER });
    await eventually('the user', () => link.isVisible());
    assert(new URL(await link.evaluate((found) => found.href)).searchParams.get('user') === USER, 'the link leads elsewhere');
  });
  await shoot(page, `incident-${scheme}`);
  await checkAxe(page, `incident, ${scheme}`);
  await check(`[${scheme}] an episode tells the cause and leads to its logs`, async () => {
    const episode = page.getByTestId('episodes').locator('li').filter({ hasText: 'error ratio of shop' }).first();
    await eventually('the episode', () => episode.isVisible());
    assert((await episode.innerText()).includes('1.9.2'), await episode.innerText());
    await episode.getByRole('button').click();
    await eventually('filter and time in the URL', () => page.url().includes('is=service%3Ashop') && /from=.*to=/.test(page.url()));
    await eventually('logs of the service', async () => {
      const services = await page.getByTestId('log-row').locator('.service').allInnerTexts();
      return services.length > 0 && services.every((service) => service === 'shop');
    });
  });
  await check(`[${scheme}] nothing of it causes trouble`, async () => assert((await settle()).length === 0, (await settle()).join('\n')));
  await context.close();
}

async function checkUser(browser, scheme) {
  const { context, page, settle } = await openPage(browser, scheme, '/?range=1h');
  await check(`[${scheme}] an open session leads to its user, with profile and sessions`, async () => {
    await page.getByTestId('open-sessions').getByRole('link', { name: USER }).click();
    await eventually('the profile', async () => (await page.getByTestId('profile').innerText()).includes('phone'));
    await eventually('the session', async () => (await panel(page, 'Sessions').innerText()).includes('still open'));
  });
  await check(`[${scheme}] the timeline goes on page by page`, async () => {
    await eventually('the first page', async () => (await entries(page).count()) === 100);
    await page.getByRole('button', { name: 'Older' }).click();
    await eventually('all of it', async () => (await entries(page).count()) === EVENTS_OF_USER);
    assert((await page.getByRole('button', { name: 'Older' }).count()) === 0, 'it promises more');
  });
  await check(`[${scheme}] an entry opens to its whole row, and hostile text stays text`, async () => {
    const entry = entries(page).filter({ hasText: FAILURE });
    await entry.getByRole('button').first().focus();
    await page.keyboard.press('Enter');
    await eventually('the row', async () => (await entry.getByTestId('log-detail').innerText()).includes('attributes.cart'));
    assert((await page.evaluate(() => window.__pwned)) === undefined, 'text of an event was executed');
    assert((await page.locator('[data-testid=timeline] :is(b, img)').count()) === 0, 'elements were made from text');
  });
  await shoot(page, `user-${scheme}`);
  await checkAxe(page, `user, ${scheme}`);
  await check(`[${scheme}] a user nobody has heard of is an error that says what to do`, async () => {
    await page.getByLabel('User', { exact: true }).fill('nobody');
    await page.keyboard.press('Enter');
    await eventually('the error', () => page.getByRole('alert').filter({ hasText: 'give the id as events name it' }).isVisible());
    assert(page.url().includes('user=nobody'), page.url());
  });
  const trouble = (await settle()).filter((text) => !text.includes('404'));
  await check(`[${scheme}] nothing else of it causes trouble`, async () => assert(trouble.length === 0, trouble.join('\n')));
  await context.close();
}

async function checkRest(browser) {
  const { context, page } = await openPage(browser, 'light', '/?range=15m');
  let asked = 0;
  page.on('request', (request) => (asked += request.url().includes('/v1/') ? 1 : 0));
  const now = page.getByRole('region', { name: 'Now', exact: true });
  const hide = (isHidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event('visibilitychange'));
    }, isHidden);
  await check('the key numbers are fresh every second or two', async () => {
    await eventually('them', () => now.isVisible());
    const answered = () => page.waitForResponse((response) => (response.request().postData() ?? '').includes('rollup_requests_10s'));
    await answered();
    const started = Date.now();
    await answered();
    assert(Date.now() - started < 5_000, `${Date.now() - started} ms`);
  });
  await check('a hidden tab asks nothing, and goes on when it is shown', async () => {
    await hide(true);
    await page.waitForTimeout(500);
    asked = 0;
    await page.waitForTimeout(4_000);
    assert(asked === 0, `${asked} requests`);
    await hide(false);
    await eventually('requests', () => asked > 0);
  });
  await check('a fixed range has no key numbers of now', async () => {
    await page.goto(`${baseUrl}/?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z`);
    await eventually('the empty panel', async () => (await panel(page, 'Anomalies').getAttribute('data-state')) === 'empty');
    assert((await now.count()) === 0, 'they are there');
    assert((await panel(page, 'Anomalies').innerText()).includes('three hours'), 'it does not say what detectors need');
  });
  await context.close();
  const narrow = await browser.newContext({ viewport: { width: 390, height: 800 } });
  const small = await narrow.newPage();
  await check('a narrow screen does not scroll sideways', async () => {
    for (const url of ['/?range=1h', `/?view=users&user=${encodeURIComponent(USER)}`]) {
      await small.goto(`${baseUrl}${url}`);
      await eventually('data', async () => (await small.locator('section.panel[data-state=ready]').count()) > 1);
      const [content, screen] = await small.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert(content <= screen, `${url}: ${content} px on ${screen} px`);
    }
    await shoot(small, 'user-narrow');
  });
  await narrow.close();
}

await run(async (browser) => {
  for (const scheme of ['light', 'dark']) {
    await checkIncident(browser, scheme);
    await checkUser(browser, scheme);
  }
  await checkRest(browser);
});
