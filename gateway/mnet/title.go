package mnet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/net/html"

	"jumpgate/gateway"
)

// MovedError says that a wwwroot does nothing but lead to another address,
// which is then probably the right one.
type MovedError struct {
	Site gateway.Wwwroot
	To   gateway.Wwwroot // the other address; zero if no site can have it
}

func (e *MovedError) Error() string {
	if e.To.IsZero() {
		return fmt.Sprintf("%s leads to another address", e.Site)
	}
	return fmt.Sprintf("%s leads to %s", e.Site, e.To)
}

const (
	maxRedirects = 5
	maxPage      = 1 << 20 // of a page whose title is looked for
	maxTitle     = 100     // characters of a name
)

// Title returns the name by which Moodle would list a new host (section 1): the
// <title> of the page at its wwwroot, on one line of at most 100 characters, or
// "" if it has none. The error says that nobody answers there, or is a
// *MovedError. Redirects are followed within the site's origin alone.
func (c *Client) Title(ctx context.Context, site gateway.Wwwroot) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, site.String()+"/", nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("User-Agent", "Jumpgate")
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		switch {
		case sameOrigin(next.URL, site) && len(via) <= maxRedirects:
			return nil
		case len(via) == 1 && next.URL.RawQuery == "": // with a query it is rather a login
			return &MovedError{Site: site, To: asWwwroot(next.URL)}
		}
		return http.ErrUseLastResponse
	}
	response, err := client.Do(request)
	if err != nil {
		return "", gateway.Unquoted(err)
	}
	defer response.Body.Close()
	return titleOf(io.LimitReader(response.Body, maxPage)), nil
}

func sameOrigin(u *url.URL, site gateway.Wwwroot) bool {
	w, err := gateway.ParseWwwroot(u.Scheme + "://" + u.Host) // which knows default ports
	return err == nil && w.Origin() == site.Origin()
}

// asWwwroot returns the wwwroot of the site whose front page has an address.
func asWwwroot(u *url.URL) gateway.Wwwroot {
	w, _ := gateway.ParseWwwroot(u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "index.php"))
	return w
}

// titleOf returns the text of the first title element of a page.
func titleOf(page io.Reader) string {
	z := html.NewTokenizer(page)
	z.SetMaxBuf(maxPage)
	for inside := false; ; {
		switch z.Next() {
		case html.ErrorToken:
			return ""
		case html.StartTagToken:
			name, _ := z.TagName()
			inside = string(name) == "title"
		case html.TextToken:
			if inside {
				return oneLine(string(z.Text()))
			}
		case html.EndTagToken:
			inside = false
		}
	}
}

// oneLine makes a name of what somebody else wrote.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	name := []rune(strings.Join(strings.Fields(s), " "))
	return strings.TrimSpace(string(name[:min(len(name), maxTitle)]))
}
