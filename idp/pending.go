package idp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/sessions"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// jumpParameter names a pending jump in the address of the login page.
const jumpParameter = "jumpgate"

// pending is the jump that a browser's login would complete.
type pending struct {
	store.Jump
	ref  string // set if the jump is not in the browser's own session
	left int    // others of the browser
}

// pick returns the jump that a request names, else the newest of the browser.
// One that is named and not in the browser's session may be in another: two
// tabs that begin at the same time get a session each, and one cookie.
func (p *Provider) pick(r *http.Request, browser *sessions.Session) (pending, bool, error) {
	jumps := p.Browsers.Jumps(browser)
	for _, ref := range named(r) {
		id, _, _ := strings.Cut(ref, ".")
		if i := slices.IndexFunc(jumps, func(j store.Jump) bool { return j.ID == id }); i >= 0 {
			return pending{Jump: jumps[i], left: len(jumps) - 1}, true, nil
		}
		jump, ok, err := p.Browsers.Find(r.Context(), ref)
		if ok || err != nil {
			return pending{Jump: jump, ref: ref, left: len(jumps)}, ok, err
		}
	}
	if len(jumps) == 0 {
		return pending{}, false, nil
	}
	return pending{Jump: jumps[0], left: len(jumps) - 1}, true, nil
}

// named returns the references of the jumps named by the address of a request
// and by the page that it came from.
func named(r *http.Request) []string {
	var refs []string
	if r.Method == http.MethodGet {
		if ref := r.URL.Query().Get(jumpParameter); ref != "" {
			refs = append(refs, ref)
		}
	}
	if from, err := url.Parse(r.Referer()); err == nil && from.Host == r.Host {
		if ref := from.Query().Get(jumpParameter); ref != "" {
			refs = append(refs, ref)
		}
	}
	return refs
}

// keepName makes a redirect back to the login page, after a wrong password,
// name the jump that the form named: with two tabs it is not the newest.
func (p *Provider) keepName(r *http.Request, res *http.Response) {
	refs := named(r)
	if len(refs) == 0 {
		return
	}
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || to.Host != "" && to.Host != r.Host || to.Path != p.Site.Path()+moodle.PageLogin {
		return
	}
	query := to.Query()
	if query.Has(jumpParameter) {
		return
	}
	query.Set(jumpParameter, refs[0])
	to.RawQuery = query.Encode()
	res.Header.Set("Location", to.String())
}

func loginPage(r *http.Request, site gateway.Wwwroot) bool {
	return r.URL.Path == site.Path()+moodle.PageLogin
}
