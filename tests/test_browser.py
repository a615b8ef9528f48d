from browser import console_errors, open_browser


def test_a_page_is_opened_and_its_errors_are_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>A page</title><style>p { color: black }"
        "@media (prefers-color-scheme: dark) { p { color: white } }</style><p>text</p>"
        "<script>if (location.hash) throw new Error('as asked')</script>"
    )
    for dark, colour in ((False, "rgba(0, 0, 0, 1)"), (True, "rgba(255, 255, 255, 1)")):
        with open_browser((800, 600), dark) as driver:
            driver.get(page.as_uri())
            assert driver.title == "A page"
            assert driver.execute_script("return [innerWidth, innerHeight]") == [800, 600]
            shown = driver.find_element("tag name", "p").value_of_css_property("color")
            assert shown == colour
            assert console_errors(driver) == []
            driver.get(page.as_uri() + "?again#fail")
            assert any("as asked" in message for message in console_errors(driver))
