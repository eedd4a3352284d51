package idp

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// Guard is the identity provider of a site whose Moodle makes the tokens
// itself (issuer moodle). It decides a jump before Moodle sees it, and judges
// what Moodle answers before the browser does. All it keeps is how many jumps
// there were, if it is to limit them.
type Guard struct {
	provider *Provider // decides and lands; it has no source, and a store for its limits alone
}

// NewGuard returns the guard of a site's Moodle.
func NewGuard(site gateway.Wwwroot, peers *gateway.Allowlist, aliases ...gateway.Wwwroot) *Guard {
	return &Guard{&Provider{
		Options: Options{Site: site, Aliases: aliases, Peers: peers, Now: time.Now},
		own:     gateway.OwnSite(site, aliases...),
		names:   append([]gateway.Wwwroot{site}, aliases...),
	}}
}

// Limit has the guard count jumps by client address and by peer, in state. Who
// the learner is, only Moodle knows.
func (g *Guard) Limit(state *store.Site, rates Rates, client func(*http.Request) netip.Addr) *Guard {
	g.provider.Store, g.provider.Rates, g.provider.Client = state, rates, client
	return g
}

// Forward is Provider.Forward.
func (g *Guard) Forward(r *http.Request) Answer { return g.provider.Forward(r) }

// Jump answers a GET or HEAD of the jump address. If Moodle has to carry the
// jump out, target is the path and query to ask it for: the peer and the page
// in the spelling that was decided on, and nothing else of the request's. Its
// answer is for Check. Without a target the Answer is final. One round trip, or
// none without limits.
func (g *Guard) Jump(r *http.Request) (a Answer, target string) {
	a, final := g.provider.ask(r)
	if final {
		return a, ""
	}
	if g.provider.Store != nil {
		charges := []store.Charge{g.provider.Rates.to(a.Peer), store.PerAddress(g.provider.Client(r), g.provider.Rates.Address)}
		if err := g.provider.Store.Spend(r.Context(), charges...); err != nil {
			return a.failed(err), ""
		}
	}
	peer := "hostwwwroot=" + url.QueryEscape(a.Peer.Wwwroot.String())
	if a.Peer.HostID != 0 { // which Moodle need not look up, nor check as an address
		peer = "hostid=" + strconv.Itoa(a.Peer.HostID)
	}
	return a, g.provider.Site.Path() + gateway.Moodle.JumpPath() + "?" + peer +
		"&wantsurl=" + url.QueryEscape(a.Target.String())
}

// still keeps a page where it is: no script and no <meta http-equiv="refresh">
// takes the learner elsewhere. A Moodle that shows debug messages, or takes a
// browser for Microsoft Word, redirects in such a way (source), past Check.
const still = "sandbox allow-forms allow-popups allow-popups-to-escape-sandbox allow-same-origin"

// Check judges what Moodle answers to an allowed jump. A redirect to the
// peer's landing address becomes the Answer's Location, put together anew. One
// to the site itself (its login page, a second factor, a policy) passes, and
// so does a page, which is made to stay. Nothing else leaves. What passes may
// have got another header in res.
func (g *Guard) Check(a Answer, res *http.Response) Answer {
	sent := res.Header["Location"]
	redirect := res.StatusCode >= 300 && res.StatusCode < 400
	switch {
	case res.StatusCode < 200:
		return a.stop("it wants to switch protocols", res)
	case len(res.Header["Refresh"]) > 0:
		return a.stop("a page that moves on by itself", res)
	case !redirect && len(sent) == 0:
		res.Header.Add("Content-Security-Policy", still)
		a.Passed = true
		return a
	case !redirect || len(sent) != 1:
		return a.stop("not one status and one Location", res)
	}
	token, err := g.token(a, sent[0])
	if err == nil {
		return g.provider.land(a, token)
	}
	if own, ok := g.own(sent[0]); ok {
		res.Header["Location"] = []string{own}
		a.Own, a.Passed = own, true
		return a
	}
	return a.stop(err.Error(), res)
}

var wellFormedToken = regexp.MustCompile(`^[0-9A-Za-z]{40}$`) // of stock Moodle: hexadecimal

// token returns the token in the address that Moodle's jump redirects to
// (protocol page, section 7). Anything but the peer's landing address with
// token, our wwwroot and the page that was decided on is an error.
func (g *Guard) token(a Answer, location string) (string, error) {
	query, ok := strings.CutPrefix(location, a.Peer.Wwwroot.String()+a.Peer.Application.LandPath()+"?token=")
	if !ok {
		return "", fmt.Errorf("not the landing address of %s", a.Peer.Wwwroot)
	}
	token, rest, hasIDP := strings.Cut(query, "&idp=")
	idp, wantsurl, hasWantsurl := strings.Cut(rest, "&wantsurl=")
	if !hasIDP || !hasWantsurl || strings.ContainsAny(wantsurl, "&;#") {
		return "", errors.New("not exactly token, idp and wantsurl")
	}
	if !wellFormedToken.MatchString(token) {
		return "", errors.New("the token is malformed")
	}
	// A Moodle that has moved goes on using its old name until its key is renewed
	// (source: mnet/environment.php).
	if idp, err := url.QueryUnescape(idp); err != nil || g.provider.own.Exact(idp) == nil {
		return "", fmt.Errorf("idp is not %s", g.provider.Site)
	}
	if wantsurl, err := url.QueryUnescape(wantsurl); err != nil || wantsurl != a.Target.String() {
		return "", errors.New("wantsurl is not the page that was asked for")
	}
	return token, nil
}

// own returns a Location that lies below our own wwwroot, and below no peer's,
// as an absolute address. The rules for targets apply, as if we were a peer.
func (g *Guard) own(location string) (string, bool) {
	site := g.provider.Site
	if strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		location = site.Origin() + location
	}
	target, rule := gateway.ParseTarget(&gateway.Peer{Wwwroot: site}, location)
	if rule != gateway.RulePeerURL {
		return "", false
	}
	place := served(strings.TrimPrefix(target.URL(), site.Origin()))
	for _, peer := range g.provider.Peers.Peers() {
		below := served(peer.Wwwroot.Path())
		if peer.Wwwroot.Origin() == site.Origin() && len(below) > len(served(site.Path())) && strings.HasPrefix(place+"/", below+"/") {
			return "", false
		}
	}
	return target.URL(), true
}

// served returns the place to which a web server may take a path: without
// escapes, parameters and dots, in small letters.
func served(address string) string {
	address, _, _ = strings.Cut(address, "#")
	address, _, _ = strings.Cut(address, "?")
	for range 3 {
		if plain, err := url.PathUnescape(address); err == nil {
			address = plain
		}
	}
	segments := strings.FieldsFunc(strings.ToLower(address), func(c rune) bool { return c == '/' || c == '\\' })
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	return strings.TrimSuffix(path.Clean("/"+strings.Join(segments, "/")), "/")
}

var (
	anyToken    = regexp.MustCompile(`[0-9A-Za-z]{32,}`)
	anyQuery    = regexp.MustCompile(`[?#].*`)
	anyUserinfo = regexp.MustCompile(`[/\\][^/\\]*@`)
)

// stop refuses what Moodle answered and notes what that was: of an address that
// is not the peer's landing, without user names and query, which may be secrets.
func (a Answer) stop(why string, res *http.Response) Answer {
	a = a.refuse(gateway.RuleUpstreamLocation)
	sent := fmt.Sprint(why, ": ", res.StatusCode)
	for _, name := range []string{"Location", "Refresh"} {
		for _, value := range res.Header[name] {
			if !strings.HasPrefix(value, a.Peer.Wwwroot.String()+a.Peer.Application.LandPath()+"?") {
				value = anyUserinfo.ReplaceAllString(anyQuery.ReplaceAllString(value, "?[query]"), "/[user]@")
			}
			sent += " " + name + ": " + value
		}
	}
	a.Moodle = anyToken.ReplaceAllString(sent, "[token]")
	return a
}
