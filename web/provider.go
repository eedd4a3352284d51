package web

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/store"
	"jumpgate/sp"
)

// maxTokenForm is the size of what a client sends for a code, in bytes.
const maxTokenForm = 16 << 10

// provider routes what the Moodle behind asks of us as its OpenID provider, and
// where it sends a browser that clicks on us at its login page.
func (h *Handler) provider(site *Site, route func(path string, methods []string, next http.Handler)) {
	read := []string{http.MethodGet, http.MethodHead}
	discovery := site.Provider.Discovery()
	route(sp.KeySetPath, read, withoutBody(h.keySet(site, site.Provider.Tokens)))
	route(sp.DiscoveryPath, read, withoutBody(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guardPage(w.Header())
		w.Header().Set("Cache-Control", keySetAge)
		writeText(w, r, http.StatusOK, "application/json", discovery)
	})))
	route(sp.AuthorizePath, read, withoutBody(h.authorize(site)))
	strangers := &quiet{last: map[string]time.Time{}}
	route(sp.TokenPath, []string{http.MethodPost}, form(site, h.token(site, strangers)))
	route(sp.UserInfoPath, []string{http.MethodGet, http.MethodPost}, withoutBody(h.userInfo(site, strangers)))
}

// authorize answers a browser that clicked on us at the login page of the Moodle
// behind. Nobody is authorized that way: learners log in at their home, and land.
func (h *Handler) authorize(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		if site.Bounces != nil {
			if a, ok := site.Bounces.Away(r, site.Provider.WantedPage(r.URL.Query())); ok {
				h.leadAway(w, r, site, a, start)
				return
			}
		}
		writeProblem(w, r, logInAtHome, site.Wwwroot.String(), nil)
	}
}

var logInAtHome = problem{http.StatusForbidden, "Please log in at your home site",
	"Here you are logged in when you come from your home site: the one where you have your account.",
	"Follow a link to this site from there, or from a mail."}

// token gives the Moodle behind a token for a code (RFC 6749, section 4.1.3).
func (h *Handler) token(site *Site, strangers *quiet) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		r.Body = http.MaxBytesReader(w, r.Body, maxTokenForm)
		if err := r.ParseForm(); err != nil {
			h.refuseClient(w, r, site, strangers, "oauth2/token", &sp.OAuthError{Code: "invalid_request", Description: "the form cannot be read"}, start)
			return
		}
		var basic *url.Userinfo
		if id, secret, ok := r.BasicAuth(); ok {
			basic = formUserinfo(id, secret)
		}
		answer, err := site.Provider.Token(r.Context(), r.PostForm, basic)
		if refused, ok := errors.AsType[*sp.OAuthError](err); ok {
			h.refuseClient(w, r, site, strangers, "oauth2/token", refused, start)
			return
		}
		var text []byte
		if err == nil {
			text, err = json.Marshal(answer)
		}
		if err != nil {
			h.failed(r, site, "a code could not be redeemed", err)
			writeProblem(w, r, notReady, site.Wwwroot.String(), nil)
			return
		}
		h.metrics.calls.WithLabelValues(site.Wwwroot.String(), "", "oauth2/token", "ok").Inc()
		guardPage(w.Header())
		writeText(w, r, http.StatusOK, "application/json", text)
	}
}

// formUserinfo undoes what RFC 6749, section 2.3.1, has a client do to its name and
// secret before it sends them.
func formUserinfo(id, secret string) *url.Userinfo {
	if plain, err := url.QueryUnescape(id); err == nil {
		id = plain
	}
	if plain, err := url.QueryUnescape(secret); err == nil {
		secret = plain
	}
	return url.UserPassword(id, secret)
}

// userInfo tells the Moodle behind whom its token is about (OpenID Connect Core 1.0,
// section 5.3).
func (h *Handler) userInfo(site *Site, strangers *quiet) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "bearer") {
			token = ""
		}
		claims, err := site.Provider.UserInfo(r.Context(), token)
		switch {
		case errors.Is(err, store.ErrNoToken):
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			h.refuseClient(w, r, site, strangers, "oauth2/userinfo", &sp.OAuthError{Code: "invalid_token", Description: "there is no such access token, or it is too old"}, start)
		case err != nil:
			h.failed(r, site, "an access token could not be looked up", err)
			writeProblem(w, r, notReady, site.Wwwroot.String(), nil)
		default:
			guardPage(w.Header())
			writeText(w, r, http.StatusOK, "application/json", claims)
		}
	}
}

// refuseClient tells a client why it gets nothing. Anybody can ask any number of
// times, so one a second is logged for each reason; all are counted, and recorded.
func (h *Handler) refuseClient(w http.ResponseWriter, r *http.Request, site *Site, strangers *quiet, step string, e *sp.OAuthError, start time.Time) {
	home, client := site.Wwwroot.String(), h.trust.Client(r).String()
	h.metrics.calls.WithLabelValues(home, "", step, e.Code).Inc()
	if strangers.mayLog(step+" "+e.Code, start) {
		h.log.LogAttrs(r.Context(), slog.LevelWarn, "openid provider", slog.String("site", home), slog.String("request", RequestID(r)),
			slog.String("client", client), slog.String("step", step), slog.String("reason", e.Code), slog.String("cause", e.Description))
	}
	status := http.StatusBadRequest
	switch e.Code {
	case "invalid_client":
		w.Header().Set("WWW-Authenticate", `Basic realm="oauth2"`)
		status = http.StatusUnauthorized
	case "invalid_token":
		status = http.StatusUnauthorized
	}
	site.Trail.Note(audit.Event{
		Kind: audit.KindRPC, Site: home, Request: RequestID(r), Client: client, Step: step,
		Decision: audit.Refuse, Rule: e.Code, Detail: e.Description, Latency: time.Since(start).Microseconds(),
	})
	text, err := json.Marshal(e)
	if err != nil { // it is our own
		panic(err)
	}
	guardPage(w.Header())
	writeText(w, r, status, "application/json", text)
}
