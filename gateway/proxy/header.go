package proxy

import (
	"maps"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// requestHeader builds the header that the upstream sees in one pass over the
// client's. Values are shared, never changed. What Connection lists goes
// first, so that a client cannot make us remove what we set afterwards.
func (p *Proxy) requestHeader(r *http.Request, upgrade string) http.Header {
	in := r.Header
	out := make(http.Header, len(in)+4)
	for name, values := range in {
		if !ordinary[name] && dropped(name) {
			continue
		}
		switch name {
		case "Cookie":
			if values = withoutOurCookies(values); len(values) == 0 {
				continue
			}
		case "Host", "Content-Length": // part of the request itself; over HTTP/2 these may say something else
			continue
		}
		out[name] = values
	}
	dropListed(out, in["Connection"])

	if httpguts.HeaderValuesContainsToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if upgrade != "" {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if r.ContentLength == 0 {
		delete(out, "Expect")
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // or net/http sends its own
	}
	p.setOurs(out, r)
	return out
}

// setOurs says what we know about the client. X-Forwarded-For holds its
// address alone, without the proxies between: Moodle takes the last entry
// (getremoteaddr), and that must not be a proxy of ours.
func (p *Proxy) setOurs(out http.Header, r *http.Request) {
	values := new([3]string)
	if client := p.trust.Client(r); client.IsValid() {
		values[0] = client.String()
		out["X-Forwarded-For"] = values[0:1:1]
	}
	values[1] = r.Host
	out["X-Forwarded-Host"] = values[1:2:2]
	out["X-Forwarded-Proto"] = p.scheme
	if p.requestID != nil {
		if values[2] = p.requestID(r); values[2] != "" {
			out["X-Request-Id"] = values[2:3:3]
		}
	}
}

// cleanResponse removes from the upstream's header what concerns only the
// connection to it, every attempt to set a cookie of ours, and the assertion, if
// the upstream repeats what it is told.
func cleanResponse(h http.Header) {
	dropListed(h, h["Connection"])
	delete(h, AssertionHeader)
	for _, name := range hopByHop {
		delete(h, name)
	}
	if values, ok := h["Set-Cookie"]; ok {
		if values = WithoutOurSetCookies(values); len(values) == 0 {
			delete(h, "Set-Cookie")
		} else {
			h["Set-Cookie"] = values
		}
	}
}

// ordinary holds names that most requests have, to spare them the long way.
var ordinary = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Cache-Control": true,
	"Content-Length": true, "Content-Type": true, "Cookie": true, "Dnt": true, "If-Modified-Since": true,
	"If-None-Match": true, "Origin": true, "Pragma": true, "Priority": true, "Range": true, "Referer": true,
	"Sec-Ch-Ua": true, "Sec-Ch-Ua-Mobile": true, "Sec-Ch-Ua-Platform": true, "Sec-Fetch-Dest": true,
	"Sec-Fetch-Mode": true, "Sec-Fetch-Site": true, "Sec-Fetch-User": true, "Upgrade-Insecure-Requests": true,
	"User-Agent": true, "X-Requested-With": true,
}

// hopByHop are the fields of RFC 9110, section 7.6.1, and two that are older
// than it, in canonical spelling.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// dropListed removes the fields that a Connection field lists.
func dropListed(h http.Header, connection []string) {
	for _, value := range connection {
		for name := range strings.SplitSeq(value, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
}

// dropped reports whether a field of a request never reaches the upstream
// under this name, in any letter case:
//
//   - a name with any character outside [A-Za-z0-9-]. PHP and CGI fold them
//     all to one, so that X_Forwarded_For and X.Forwarded.For are
//     X-Forwarded-For, and Content_Length is the real Content-Length. Nginx
//     drops them too;
//   - fields that belong to one connection;
//   - fields by which a proxy in front tells address, host, scheme, path or
//     user. Only we may tell them.
func dropped(name string) bool {
	var lower [32]byte // longer than every name and prefix below
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		default:
			return true
		}
		if i < len(lower) {
			lower[i] = c
		}
	}
	s := string(lower[:min(len(name), len(lower))])
	switch s {
	case "",
		// One connection: RFC 9110, section 7.6.1, and RFC 9113, section 3.1.
		"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
		"te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
		// Variables that CGI programs trust: httpoxy, and names of its own.
		"proxy", "https", "redirect-status", "x-https", "front-end-https",
		// Addresses.
		"forwarded", "client-ip", "true-client-ip", "real-ip", "remote-addr", "remote-ip",
		"x-client-ip", "x-true-client-ip", "x-real-ip", "x-remote-ip", "x-remote-addr",
		"x-cluster-client-ip", "x-originating-ip", "x-original-forwarded-for", "x-original-remote-addr",
		"x-azure-clientip", "x-azure-socketip", "x-envoy-external-address", "x-envoy-original-path",
		"x-appengine-user-ip", "x-appengine-remote-addr", "fastly-client-ip", "ali-cdn-real-ip",
		"cdn-src-ip", "wl-proxy-client-ip", "x-proxyuser-ip",
		// Host, scheme and path.
		"x-host", "x-original-host", "x-http-host-override", "x-original-url", "x-original-uri",
		"x-rewrite-url", "x-rewrite-uri", "x-url-scheme", "x-scheme", "x-original-proto",
		"x-original-scheme", "x-arr-ssl", "x-proto", "x-ssl",
		// Users.
		"auth-user", "auth-type", "auth-name", "auth-email", "auth-groups", "auth-password",
		"x-auth-user", "x-auth-username", "x-auth-userid", "x-auth-email", "x-auth-name",
		"x-auth-groups", "x-auth-roles", "x-user", "x-username", "x-user-id", "x-user-name",
		"x-user-email", "x-user-groups", "x-user-roles", "x-email", "x-groups", "x-userinfo",
		"x-id-token", "x-client-cert", "x-client-dn", "client-cert", "client-cert-chain", "eppn",
		"persistent-id", "x-goog-iap-jwt-assertion":
		return true
	}
	for _, prefix := range droppedPrefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

var droppedPrefixes = []string{
	"x-forwarded", "x-jumpgate", "jumpgate-", "cf-connecting-ip", "cf-access-", "cf-pseudo-",
	"remote-user", "remote-group", "remote-email", "remote-name", "remote-role",
	"x-remote-user", "x-remote-group", "x-remote-email", "x-remote-name", "x-remote-role", "x-remote-extra",
	"x-auth-request-", "x-authenticated", "x-authentik-", "x-webauth-", "x-vouch-",
	"x-pomerium-", "x-goog-authenticated-", "x-ms-client-principal", "x-ms-token-", "x-amzn-oidc-",
	"x-amzn-mtls-", "oidc-", "x-oidc-", "shib-", "x-shib-", "mellon-", "x-saml-", "ssl-client-", "x-ssl-client-",
	"x-endpoint-api-user",
}

// dropTrailers removes what must not pass as a header from passing as a
// trailer: some servers merge the two.
func dropTrailers(t http.Header) {
	maps.DeleteFunc(t, func(name string, _ []string) bool { return dropped(name) })
}

// upgradeToken returns the protocol that the client wants to switch to, or "".
// Another version or wrapping of HTTP is not passed on: inside that tunnel
// nobody would clean headers ("h2c smuggling").
func upgradeToken(r *http.Request) string {
	values := r.Header["Upgrade"]
	if len(values) != 1 || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.ContentLength != 0 ||
		!httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") {
		return ""
	}
	token := values[0]
	name, _, _ := strings.Cut(strings.ToLower(token), "/")
	if !httpguts.ValidHeaderFieldName(strings.Replace(token, "/", "", 1)) ||
		name == "h2" || name == "h2c" || name == "h3" || name == "http" || name == "https" || name == "tls" {
		return ""
	}
	return token
}
