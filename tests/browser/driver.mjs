// Lets a test drive a real Chromium: driver.mjs EXECUTABLE.
//
// Reads calls from standard input, one a line, as JSON: ["goto", "http://…"]. The name is one of playwright's Page, also
// with a dot, or one of `own`. Answers each with a line: DONE and the value as JSON, or FAILED and why.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const browser = await chromium.launch({ executablePath: process.argv[2] });
const complaints = [];
let page;
let fetches = 0;

async function watched(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      complaints.push(message.text());
    }
  });
  page.on("request", (request) => {
    fetches += request.resourceType() === "fetch" ? 1 : 0;
  });
  return page;
}

const own = {
  // A new window, with options of playwright's newContext.
  async open(options) {
    await page?.context().close();
    page = await watched(options);
  },
  // What the browser's console complained about so far.
  complaints: () => complaints,
  // How often scripts fetched something so far.
  fetches: () => fetches,
  evaluate: (expression) => page.evaluate(expression),
  // Playwright's waitForFunction needs an eval that the page's policy forbids. A page that is being left has no answer.
  async waitFor(expression) {
    while (!(await page.evaluate(`Boolean(${expression})`).catch(() => false))) {
      await new Promise((resume) => setTimeout(resume, 20));
    }
  },
};

async function call(name, args) {
  if (name in own) {
    return await own[name](...args);
  }
  const path = name.split(".");
  const method = path.pop();
  const owner = path.reduce((owner, field) => owner[field], page);
  await owner[method](...args);
}

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line);
  try {
    const value = await call(name, args);
    console.log(`DONE ${JSON.stringify(value ?? null)}`);
  } catch (error) {
    console.log(`FAILED ${JSON.stringify(String(error))}`);
  }
}
await browser.close();
