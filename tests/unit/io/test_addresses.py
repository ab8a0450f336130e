import pytest

from nuclass_pipeline.errors import UserError
from nuclass_pipeline.io.addresses import address_problem, check_address, check_redirect, show_address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "it does not start with https:// or http://"),
        ("/data/outs.zip", "it does not start with"),
        ("outs.zip", "it does not start with"),
        ("C:\\outs.zip", "a backslash"),
        ("s3://bucket/outs.zip", "it does not start with"),
        ("file:///etc/passwd", "it does not start with"),
        ("FILE:///etc/passwd", "it does not start with"),
        ("ftp://host/outs.zip", "it does not start with"),
        ("data:,x", "it does not start with"),
        ("http:/x", "it names no host"),
        ("https://:443/x", "it names no host"),
        ("http://[::1/x", "it is not an address"),
        ("http://host:port/x", "it is not an address"),
        ("http://host:99999/x", "it is not an address"),
        ("http://ho st/x", "a blank"),
        ("http://host/x\r\nHost: other", "a character that an address cannot hold"),
        ("http://hóst/x", "a character that an address cannot hold"),
        ("https://user:word@host/x", "it holds a user name or a password"),
    ],
)
def test_an_address_that_is_not_read_is_one_line(url, message):
    assert message in address_problem(url)
    with pytest.raises(UserError, match=r"Correct it in the slide sheet; leave all URLs") as caught:
        check_address(url)
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value) or "password" in str(caught.value).replace("user:word", "")


@pytest.mark.parametrize("url", ["https://cf.10xgenomics.com/a/b.zip", "HTTPS://host/x", "http://localhost:8765/x", "https://host/x?a=b#c"])
def test_an_address_that_is_read(url):
    assert address_problem(url) == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a/b.zip", "https://host/a/b.zip"),
        ("https://host/get?acc=GSM1&file=a.tif", "https://host/get?acc=GSM1&file=a.tif"),
        ("https://host/get?file=a.tif#part", "https://host/get?file=a.tif"),
        ("https://host/a?X-Amz-Date=1&X-Amz-Signature=s", "https://host/a"),
        ("https://host/a?x-goog-signature=s", "https://host/a"),
        ("https://host/a?sv=1&se=2&SIG=s", "https://host/a"),
        ("https://host/a?file=b&access_token=s", "https://host/a"),
        ("https://host/a?api_key=s", "https://host/a"),
        ("https://host/a?Policy=s", "https://host/a"),
        ("https://user:word@host/a", "https://host/a"),
        ("http://[::1/a?token=s", "http://[::1/a"),
    ],
)
def test_what_lets_someone_in_is_not_shown(url, shown):
    assert show_address(url) == shown


@pytest.mark.parametrize(
    ("url", "target", "problem"),
    [
        ("https://host/a", "https://host/b", ""),
        ("http://host/a", "https://host/a", ""),
        ("https://host/a", "https://host:443/b", ""),
        ("https://www.10xgenomics.com/a", "https://cf.10xgenomics.com/b", ""),
        ("http://127.0.0.1:80/a", "http://127.0.0.1/b", ""),
        ("https://host/a", "http://host/a", "it is not encrypted"),
        ("http://host/a", "http://host/b", "it is not encrypted"),
        ("https://host/a", "http://localhost/b", "it is not encrypted"),
        ("https://host/a", "https://other/b", "it is another host"),
        ("https://host/a", "https://host:8443/b", "it is another host"),
        ("https://host/a", "https://cf.10xgenomics.com.evil.org/b", "it is another host"),
        ("http://127.0.0.1:1/a", "http://127.0.0.1:2/b", "it is another host"),
        ("https://host/a", "https://me:word@host/b", "it holds a user name"),
        ("https://host/a", "file:///etc/passwd", "it does not start with"),
    ],
)
def test_redirects_stay_on_the_host_and_encrypted(url, target, problem):
    if not problem:
        check_redirect(url, target)
        return
    with pytest.raises(UserError, match=f"it redirects to .*, but {problem}"):
        check_redirect(url, target)
