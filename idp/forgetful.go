package idp

import (
	"net/http"

	"jumpgate/gateway"
)

// Forgets reports whether a browser asks for the login page to which a jump has
// sent it, without any cookie: then it may be one that keeps none, and Moodle would
// have its learner log in in vain. It costs no allocation. Programs, which do not say
// that they navigate, are not meant.
func (p *Provider) Forgets(r *http.Request) bool {
	return len(r.Header["Cookie"]) == 0 && p.OpenID == nil && r.Method == http.MethodGet && r.URL.RawQuery != "" && loginPage(r, p.Site) &&
		r.Header.Get("Sec-Fetch-Mode") == "navigate" && gateway.Navigation(r.Header)
}

// Forgot refuses a jump that is remembered for a browser which has kept no cookie.
// It reports false if the address names none that waits, as when somebody has kept
// the login page for longer than the browser had to keep its cookie.
//
// To who has only taken the address to another browser, Again opens the way: unless
// it matters whose click began a jump, since anybody may plant one and name it here.
func (p *Provider) Forgot(r *http.Request) (Answer, bool) {
	jump, ok, err := p.Browsers.Find(r.Context(), r.URL.Query().Get(jumpParameter))
	if !ok || err != nil {
		return Answer{}, false // the login page comes without Redis
	}
	a := p.resume(jump)
	a.Origin = gateway.OriginCross
	if a.final() {
		return Answer{}, false
	}
	if !p.asks(a) && !p.needsSignature(a) {
		a.Again = gateway.JumpLink(p.Site, gateway.Moodle, a.Peer.Wwwroot, a.Target)
	}
	return a.refuse(gateway.RuleNoCookie), true
}
