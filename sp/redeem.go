package sp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

const (
	userAuthorise = "auth/mnet/auth.php/user_authorise"
	redeemTime    = 10 * time.Second // for a home to answer
	// triedLife is how long a token is not shown to its home again. That of a
	// Moodle lives for half a minute, and anybody can make up any number of others.
	triedLife = 5 * time.Minute
)

// tokenShape is what a Moodle takes for a token: its filter for base64, and
// twice its column to be safe (protocol page, section 7).
var tokenShape = regexp.MustCompile(`^[A-Za-z0-9_/+=]{1,80}$`)

// refusal is why somebody does not land.
type refusal struct {
	rule  gateway.Rule
	cause error // for administrators
}

// Error says why.
func (r refusal) Error() string { return string(r.rule) }

// Bring notes that Moodle is about to redeem the token of a landing that is not
// Final, and refuses one that no home makes, or that was brought before: a stock
// home takes it again and again for half a minute. Who has landed by it is led to
// the page.
func (l *Landings) Bring(r *http.Request, a Arrival) Arrival {
	if a = l.spend(r, a); a.Final() {
		return a
	}
	_, refused, err := l.bring(r.Context(), a)
	switch {
	case err != nil:
		a.Err = err
	case refused != nil && refused.rule == gateway.RuleTokenUsed && a.present.loggedIn() && a.present.who.Remote:
		a.Outcome, a.Location = OutcomeUsed, a.Target.URL() // a double click, or the way back in the history
	case refused != nil:
		return l.turnAway(a, *refused)
	}
	return a
}

// bring notes that a token is brought, and refuses one that is nothing that a home
// makes, or that was brought before, in any letter case: a home with MySQL knows it
// in all. It returns what the token is called here.
func (l *Landings) bring(ctx context.Context, a Arrival) (token string, _ *refusal, _ error) {
	if !tokenShape.MatchString(a.Token) {
		return "", &refusal{rule: gateway.RuleTokenMalformed}, nil
	}
	token = a.Home.Wwwroot.String() + "\x00" + strings.ToLower(a.Token)
	tried, err := l.Once.ReplayedWithin(ctx, sha256.Sum256([]byte("jumpgate tried\x00"+token)), triedLife)
	if tried && err == nil {
		return token, &refusal{rule: gateway.RuleTokenUsed}, nil
	}
	return token, nil, err
}

// redeem asks a home for whom it has made the token of a landing, and returns the
// account that they have here. A token that was brought before is not asked for,
// and what has logged in does not do so again, however long a home takes it: it is
// the home that burns tokens, and a stock Moodle does not.
func (l *Landings) redeem(r *http.Request, a Arrival) (learner string, account gateway.User, _ *refusal, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), redeemTime)
	defer cancel()
	token, refused, err := l.bring(ctx, a)
	if refused != nil || err != nil {
		return "", account, refused, err
	}
	told, err := l.Logins.Call(ctx, a.Home, userAuthorise, a.Token, agentHash(r))
	if err != nil {
		rule := gateway.RuleHomeFailed
		if fault, ok := errors.AsType[*mnet.Fault](err); ok && !fault.Unauthenticated &&
			(fault.Code == mnet.FaultNoSession || fault.Code == mnet.FaultSessionTimedOut || fault.Code == mnet.FaultUserMismatch) {
			rule = gateway.RuleTokenRefused
		}
		return "", account, &refusal{rule, err}, nil
	}
	if used, err := l.Once.Replayed(ctx, sha256.Sum256([]byte("jumpgate token\x00"+token))); used || err != nil {
		return "", account, &refusal{rule: gateway.RuleTokenUsed}, err
	}
	account, refused = l.Logins.account(a.Home, told)
	if fields, ok := mnet.Map(told); ok {
		name, _ := fields.Get("username")
		learner = mnet.Text(name)
	}
	return learner, account, refused, nil
}

// The sizes of Moodle's columns, in characters.
const (
	maxName = 100 // firstname, lastname and email
	maxCity = 120
)

var (
	countryCode = regexp.MustCompile(`^[A-Z]{2}$`)
	langCode    = regexp.MustCompile(`^[a-z]{2,3}(_[a-z0-9]{1,20}){0,3}$`)
)

// account reads what a home says about a learner (protocol page, section 6), and
// returns the account that they have here. Of what is not needed nothing is taken
// that is not as it should be, or that the configuration does not let in.
func (h *Logins) account(home *gateway.Peer, told mnet.Value) (gateway.User, *refusal) {
	learner, ok := mnet.Map(told)
	if !ok {
		return gateway.User{}, &refusal{gateway.RuleHomeFailed, errors.New("the home's answer is no user")}
	}
	text := func(field string) string {
		v, _ := learner.Get(field)
		if field == "username" {
			return mnet.Text(v) // with a blank it is another one
		}
		return strings.TrimSpace(mnet.Text(v))
	}
	for _, field := range []string{"username", "firstname", "lastname", "email"} {
		switch value := text(field); {
		case value == "":
			return gateway.User{}, &refusal{gateway.RuleUserIncomplete, fmt.Errorf("the home does not tell the %s", field)}
		case !legible(value, maxName):
			return gateway.User{}, &refusal{gateway.RuleUserMalformed, fmt.Errorf("the %s that the home tells is too long, or not text", field)}
		}
	}
	if email := text("email"); !strings.Contains(email, "@") || strings.ContainsAny(email, "; \t<>,") {
		return gateway.User{}, &refusal{gateway.RuleUserMalformed, errors.New("the email that the home tells is no address")}
	}
	if !home.Access.Allows(text("username")) {
		return gateway.User{}, &refusal{gateway.RuleUserAccess, fmt.Errorf("user %q of the home", text("username"))}
	}
	name, err := h.Names.Of(home.Wwwroot, text("username"))
	if err != nil {
		return gateway.User{}, &refusal{gateway.RuleUserUsername, err}
	}
	u := gateway.User{Username: name, FirstName: text("firstname"), LastName: text("lastname"), Email: text("email")}
	if city := text("city"); home.Imports("city") && legible(city, maxCity) {
		u.City = city
	}
	if country := strings.ToUpper(text("country")); home.Imports("country") && countryCode.MatchString(country) {
		u.Country = country
	}
	if h.Pictures != nil && home.Imports("picture") {
		u.Picture = pictureVersion(text)
	}
	if lang := strings.TrimSuffix(text("lang"), "_utf8"); home.Imports("lang") && langCode.MatchString(lang) {
		u.Lang = lang // Moodle 1.x called its languages de_utf8
	}
	return u, nil
}

// legible reports whether s is text on one line that fits into a column.
func legible(s string, limit int) bool {
	return len(s) <= 4*limit && utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, unicode.IsControl)
}
