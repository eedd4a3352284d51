package web

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/proxy"
	"jumpgate/sp"
)

//go:embed templates/landing.html
var landingHTML string

var landingTemplate = template.Must(template.New("landing").Parse(landingHTML))

// land logs those in who come from a home, or lets Moodle do it, and asks them
// first if that would replace another account.
func (h *Handler) land(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a := site.Landings.Arrive(r)
		if a.Final() {
			h.arrived(w, r, site, "land", a, start)
			return
		}
		if site.Landings.Logins != nil {
			h.arrived(w, r, site, "land", site.Landings.LogIn(r, a), start)
			return
		}
		if a = site.Landings.Bring(r, a); a.Final() {
			h.arrived(w, r, site, "land", a, start)
			return
		}
		out := asking(r, site.Landings.Ask(a))
		if a.Keeps() {
			out.Header = r.Header.Clone()
			out.Header["Cookie"] = moodle.WithoutSession(r.Header["Cookie"], site.Landings.Cookie)
		}
		answered := false
		defer func() { // also if the proxy breaks off
			if !answered { // and UpstreamFailed has told the learner
				a.Err = errNoAnswer
				site.Trail.Note(h.landingEvent(r, site, "land", "error", a, start))
				h.logLanding(r, site, "land", "error", a, start)
			}
		}()
		site.Proxy.Serve(w, out, func(w http.ResponseWriter, _ *http.Request, res *http.Response) bool {
			answered = true
			a := site.Landings.Judge(r, a, res)
			if !h.arrived(w, r, site, "land", a, start) {
				return true
			}
			if a.Outcome != sp.OutcomeFailed {
				site.Homes.Remember(res.Header, a.Home)
			}
			if site.IDP != nil && site.IDP.Expects(r) {
				return site.loginReturn(w, r, res)
			}
			return site.watch(w, r, res)
		})
	}
}

// switchAccount takes the answers of learners who were asked.
func (h *Handler) switchAccount(site *Site) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		h.arrived(w, r, site, "switch", site.Landings.Switch(w, r), start)
	}
}

// arrived turns what became of a landing into the response, one log line, one
// event of the trail and the metrics. step is "land" or "switch". It reports
// whether Moodle's own answer is to be passed on instead.
//
// The event comes first: what has to be recorded and cannot be is not done.
func (h *Handler) arrived(w http.ResponseWriter, r *http.Request, site *Site, step string, a sp.Arrival, start time.Time) (passes bool) {
	if a.Err == nil && a.Location != "" && !site.mayLead(a.Location, time.Now()) {
		a.Err = errStray
	}
	outcome, home := a.Outcome, site.Wwwroot.String()
	switch {
	case a.Refused:
		outcome = "refused"
	case a.Err != nil && outcome != sp.OutcomeUnsure:
		outcome = "error"
	}
	if err := site.Trail.Record(r.Context(), h.landingEvent(r, site, step, outcome, a, start)); err != nil {
		a.Err, outcome = errors.Join(a.Err, err), "error"
	}
	switch {
	case errors.Is(a.Err, errStray):
		writeProblem(w, r, stray, home, nil)
	case outcome == sp.OutcomeUnsure && a.Keeps():
		writeProblem(w, r, unsure, home, landingDetails(a))
	case a.Err != nil:
		writeProblem(w, r, landingNotReady, home, nil)
	case a.Refused:
		h.turnedAway(w, r, site, a)
	case a.Question != nil:
		writeQuestion(w, r, site.Wwwroot, a)
	case a.Location != "":
		if outcome == sp.OutcomeLanded || outcome == sp.OutcomeSame || outcome == sp.OutcomeSwitched {
			// It means to others what it would if Moodle had answered.
			answer := &http.Response{StatusCode: http.StatusSeeOther, Header: http.Header{"Set-Cookie": proxy.WithoutOurSetCookies(a.Cookies)}}
			site.Homes.Remember(answer.Header, a.Home)
			site.watch(w, r, answer)
			w.Header()["Set-Cookie"] = answer.Header["Set-Cookie"]
			if a.Session != nil {
				http.SetCookie(w, a.Session)
			}
		}
		writeRedirect(w, http.StatusSeeOther, a.Location)
	case outcome == sp.OutcomeHead:
		guardPage(w.Header())
	default:
		passes = true
	}
	site.Landings.Learn(a)
	site.Landings.TakePicture(a)
	h.logLanding(r, site, step, outcome, a, start)
	return passes
}

// turnedAway tells a learner that they do not land, and shows the way back home.
func (h *Handler) turnedAway(w http.ResponseWriter, r *http.Request, site *Site, a sp.Arrival) {
	again, home := "", site.Wwwroot.String()
	if a.Home != nil && site.Peers.Covers(a.Home.Wwwroot.String()+"/", time.Now()) {
		again, home = a.Again, a.Home.Wwwroot.String()
	}
	if a.After > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(a.After.Seconds())), 10))
	}
	writeRetry(w, r, landingProblemOf(a.Rule).waiting(a.After), again, home, landingDetails(a))
}

func (h *Handler) logLanding(r *http.Request, site *Site, step, outcome string, a sp.Arrival, start time.Time) {
	level := slog.LevelInfo
	switch {
	case a.Err != nil:
		level = slog.LevelError
	case a.Cause != nil:
		level = slog.LevelWarn
	}
	peer := ""
	attrs := []slog.Attr{
		slog.String("site", site.Wwwroot.String()),
		slog.String("request", RequestID(r)),
		slog.String("client", h.trust.Client(r).String()),
		slog.String("step", step),
		slog.String("outcome", outcome),
		slog.String("rule", string(a.Rule)),
		slog.Duration("took", time.Since(start)),
	}
	if a.Home != nil {
		peer = a.Home.Wwwroot.String()
		attrs = append(attrs, slog.String("home", peer), slog.String("wantsurl", printable(a.Wantsurl)))
	}
	if a.Origin != "" {
		attrs = append(attrs, slog.String("origin", string(a.Origin)))
	}
	if a.Username != "" {
		attrs = append(attrs, slog.String("user", a.Username))
	}
	if a.Newcomer != "" {
		attrs = append(attrs, slog.String("newcomer", printable(a.Newcomer)))
	}
	if a.Hint != "" {
		attrs = append(attrs, slog.String("hint", printable(a.Hint)))
	}
	if a.Cause != nil {
		attrs = append(attrs, slog.String("cause", printable(a.Cause.Error())))
	}
	if a.Err != nil {
		attrs = append(attrs, slog.Any("error", a.Err))
	}
	h.log.LogAttrs(r.Context(), level, "landing", attrs...)
	h.metrics.landings.WithLabelValues(site.Wwwroot.String(), peer, outcome, string(a.Rule)).Inc()
	if a.Probe() {
		h.metrics.probes.WithLabelValues(site.Wwwroot.String(), string(a.Rule)).Inc()
	}
}

// landingDetails returns what helps an administrator to see why.
func landingDetails(a sp.Arrival) []detail {
	details := []detail{}
	if a.Refused {
		details = append(details, detail{"rule", string(a.Rule)})
	}
	if a.Home != nil {
		details = append(details, detail{"home", a.Home.Wwwroot.String()})
	}
	return details
}

// writeQuestion asks a learner who is to be logged in. The form leads to us,
// and from here below our wwwroot or, for a page of the home, there: browsers
// apply form-action to the redirect too.
func writeQuestion(w http.ResponseWriter, r *http.Request, site gateway.Wwwroot, a sp.Arrival) {
	var page bytes.Buffer
	err := landingTemplate.Execute(&page, map[string]any{
		"LoggedIn": a.Question.LoggedIn, "Creates": a.Question.Creates,
		"Present": legible(a.Question.Present), "Newcomer": legible(a.Question.Newcomer), "Same": a.Question.Present == a.Question.Newcomer,
		"From": a.Home.Wwwroot.Host() + a.Home.Wwwroot.Path(), "Site": site.Host() + site.Path(),
		"Action": site.String() + sp.SwitchPath, "Ticket": a.Question.Ticket,
		"Details": []detail{{"page", a.Target.URL()}, {"logged in", legible(a.Username)}, {"link's account", legible(a.Newcomer)}, {"request", RequestID(r)}},
		"Style":   template.CSS(style),
	})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	forms := "'self'"
	if a.Question.Form != "" {
		forms += " " + a.Question.Form
	}
	guardPage(w.Header())
	w.Header().Set("Content-Security-Policy", contentPolicy(forms))
	w.Header().Set("Referrer-Policy", "same-origin")
	writePage(w, r, http.StatusOK, page.Bytes())
}

var (
	newToken = problem{http.StatusForbidden, "This login is over",
		"The address in your browser was good for one login, and for half a minute.",
		"Go there once more: your home site will log you in anew."}
	noAccount = problem{http.StatusForbidden, "You cannot come in with this account", "", adviceAdmin}
)

// landingProblems holds what a learner is told otherwise than about a jump.
var landingProblems = map[gateway.Rule]problem{
	gateway.RulePeerUnknown: {http.StatusForbidden, "We do not know where you come from",
		"The link says that another site vouches for you. This site is not connected with it.", adviceAdmin},
	gateway.RuleMNetOff: {http.StatusForbidden, "The way from other sites is closed",
		"This site has switched off the connection to other sites.", adviceAdmin},
	gateway.RulePeerOff: {http.StatusForbidden, "The way from your site is closed",
		"This site has switched off the connection to the site that you come from.", adviceAdmin},
	gateway.RulePeerExpired: {http.StatusForbidden, "The way from your site is closed",
		"This site was connected with the site that you come from for a time, and that time is over.", adviceAdmin},
	gateway.RuleNotNavigation: {http.StatusForbidden, "Please follow the link yourself",
		"You are logged in here when you click on a link, not inside another page.", "Open the link in a window of its own."},
	gateway.RuleHomeGrant: {http.StatusForbidden, "The way from your site is closed",
		"This site knows the site that you come from, but does not log in its people.", adviceAdmin},
	gateway.RuleTokenMalformed: badRequest,
	gateway.RuleTokenUsed:      newToken,
	gateway.RuleTokenRefused:   newToken.saying("Your home site does not know any more that it sent you: that was more than half a minute ago, or it has logged you out, or you have changed browsers.", ""),
	gateway.RuleHomeFailed: {http.StatusBadGateway, "Your home site does not answer",
		"We have asked the site that you come from who you are, and it did not tell us.", "Wait a minute, then try it once more. " + adviceAdmin},
	gateway.RuleUserIncomplete: noAccount.saying("Your home site does not tell us your first name, last name or mail address.",
		"Fill them in on your profile page there, then try it once more."),
	gateway.RuleUserMalformed:  noAccount.saying("What your home site tells us about you does not fit into an account here: your name, username or mail address is too long, or has characters that nobody can read.", ""),
	gateway.RuleUserUsername:   noAccount.saying("Your username at your home site is one for which there can be no account here.", ""),
	gateway.RuleUserAccess:     noAccount.saying("This site lets in some of the people of your home site, and you are not among them.", ""),
	gateway.RuleAccountMissing: noAccount.saying("You have no account here, and this site does not make one for people who come from your home site.", ""),
	gateway.RuleAccountMail: noAccount.saying("Another account of this site has your mail address.",
		"If that account is yours, log in with it as you always do. If you want to come in from your home site instead, ask the administrators to connect the two."),
	gateway.RuleAccountRefused: noAccount.saying("The account that is yours here does not let you in. It may be suspended, or locked for a while.", ""),
	gateway.RuleRateAddress: {http.StatusTooManyRequests, "Too many visitors at once",
		"Many people come here from the network that you are in.", adviceWait},
}

// landingProblemOf returns the page for a rule that refuses a landing.
func landingProblemOf(rule gateway.Rule) problem {
	if p, ok := landingProblems[rule]; ok {
		return p
	}
	return problemOf(rule)
}

var (
	landingNotReady = problem{http.StatusServiceUnavailable, "Not just now",
		"We cannot log you in at the moment, because a part of this site does not answer.",
		"Wait a minute, then follow the link again."}
	unsure = problem{http.StatusServiceUnavailable, "Please log out first",
		"You are logged in here, and we could not find out whether the link is for the same account. You are still logged in as before.",
		"If you want to follow the link, log out here, then follow it again."}
)
