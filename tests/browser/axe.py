"""What axe-core finds in a page."""

from playwright.async_api import Page

_RUN = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  const told = (node) => `${node.target.flat().join(" ")}: ${node.any.concat(node.all, node.none)[0]?.message}`;
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id} ${told(node)}`));
}"""


async def violations(page: Page, axe: str) -> list[str]:
    """What it finds, with where; `axe` is its source."""
    await page.evaluate(f"{axe}; undefined")
    found: list[str] = await page.evaluate(_RUN)
    return found
