package sp

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
)

// OAuth2Door lets learners in by Moodle's core plugin auth_oauth2, to which we are
// an OpenID provider: a Provider. Who is known to Moodle as a login of ours, a linked
// login, is let in as that account: one that the plugin has made, or one of Moodle's
// own MNet that an administrator has linked ("jumpgate accounts report").
//
// For a login that it does not know, the plugin takes any local account of the same
// mail address, and links the two for good (source: complete_login in
// auth/oauth2/classes/auth.php). So nobody gets that far whose mail address a local
// account has which is not theirs: one that the plugin has made, under their name,
// with their subject as its ID number. Moodle lets users change their own, unless
// the plugin's settings lock it (source: user/edit_form.php).
type OAuth2Door struct {
	Moodle   OAuth2Moodle
	IssuerID int64 // Moodle's number of the OAuth 2 service that is us
	Provider *Provider

	// Accounts returns the accounts that have a value in a field: see
	// moodle.Web.AccountsBy.
	Accounts func(ctx context.Context, field, value string) ([]moodle.Account, error)

	// Claim reports whether no other subject lands with a mail address at the
	// moment: store.Site.ClaimMail.
	Claim func(ctx context.Context, mail, subject string) (bool, error)
}

// OAuth2Moodle is a Moodle that logs in by OAuth 2: moodle.Web.
type OAuth2Moodle interface {
	OAuth2Login(ctx context.Context, b moodle.Browser, issuerID int64, code string) (moodle.Login, error)
}

// subject names a learner to Moodle for good, whatever accounts are called. It is
// no longer than the column user.idnumber.
func (n Newcomer) subject() string { return n.Home.Wwwroot.String() + "#" + n.Learner }

const maxSubject = 255

// plainMail is what Moodle takes for a mail address, and what every database
// compares alike: those of MySQL do not tell ü from u.
var plainMail = regexp.MustCompile(`^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9.-]+$`)

// logIn does what a browser would do, with the mail address looked up before.
func (d *OAuth2Door) logIn(ctx context.Context, b moodle.Browser, n Newcomer) (login moodle.Login, seen []moodle.Account, err error) {
	switch mail := n.Account.Email; {
	case d.IssuerID == 0:
		return login, nil, refusal{gateway.RuleAccountRefused, errors.New("landing.issuer_id is not given: the number of the OAuth 2 service in Moodle that is this gateway")}
	case !plainMail.MatchString(mail):
		return login, nil, refusal{gateway.RuleUserMalformed, errors.New("the mail address that the home tells has other characters than those of ASCII")}
	case n.Account.Username == "0": // which PHP takes for none, and the plugin then for the mail address
		return login, nil, refusal{gateway.RuleUserUsername, errors.New(`the name would be "0"`)}
	case len(n.subject()) > maxSubject:
		return login, nil, refusal{gateway.RuleUserUsername, fmt.Errorf("home and username are longer than %d bytes", maxSubject)}
	}
	if seen, err = d.Accounts(ctx, "email", n.Account.Email); err != nil {
		return login, nil, err
	}
	for _, account := range seen {
		if err := d.mayBeTaken(account, n); err != nil {
			return login, nil, refusal{gateway.RuleAccountMail, err}
		}
	}
	if err := d.claim(ctx, n, seen); err != nil {
		return login, nil, err
	}
	code, err := d.Provider.issue(ctx, n)
	if err != nil {
		return login, nil, err
	}
	login, err = d.Moodle.OAuth2Login(ctx, b, d.IssuerID, code)
	return login, seen, loginRefused(err)
}

// claim keeps others out who have the mail address as well, as long as no account
// shows that it is the newcomer's. Of two who came at once, the plugin would link
// the second to the account that it has just made for the first, and write into
// that who the second is, each time they came.
func (d *OAuth2Door) claim(ctx context.Context, n Newcomer, seen []moodle.Account) error {
	for _, account := range seen {
		if account.Auth == moodle.AuthOAuth2 {
			return nil
		}
	}
	claimed, err := d.Claim(ctx, n.Account.Email, n.subject())
	if err == nil && !claimed {
		err = refusal{gateway.RuleAccountMail, errors.New("another learner has come with the same mail address in the last two minutes")}
	}
	return err
}

// mayBeTaken says why the plugin must not be led to an account of a newcomer's mail
// address, or nil. Those of other sites it does not look at.
func (d *OAuth2Door) mayBeTaken(account moodle.Account, n Newcomer) error {
	switch {
	case account.Auth == moodle.AuthMNet:
		return nil
	case account.Auth != moodle.AuthOAuth2 || account.Username != n.Account.Username:
		return fmt.Errorf("account %d (auth %s) has the mail address of the learner", account.ID, account.Auth)
	}
	return d.isMarked(account, n)
}

// isMarked says why an account that the plugin has made is not certainly a
// newcomer's, or nil.
func (d *OAuth2Door) isMarked(account moodle.Account, n Newcomer) error {
	if account.IDNumber == n.subject() {
		return nil
	}
	return fmt.Errorf("account %d has the name of the learner, but not the ID number %q: in Moodle's OAuth 2 service, map the field sub to idnumber, and in the plugin's settings lock the ID number (Unlocked if empty); "+
		"then, if the account is this learner's, write that into it", account.ID, n.subject())
}

func (d *OAuth2Door) owns(who gateway.Identity, n Newcomer) bool {
	u := who.User
	switch {
	case u.ID == 0 || who.LoginAs:
		return false
	case u.Auth == moodle.AuthOAuth2:
		return !who.Remote && u.Username == n.Account.Username
	case u.Auth == moodle.AuthMNet:
		host := int64(n.Home.HostID)
		return who.Remote && u.Username == strings.ToLower(n.Learner) && (host == 0 || u.MnetHostID == 0 || u.MnetHostID == host)
	}
	return false
}

// verify makes sure that the lookup of mail addresses sees accounts, and that those
// which the plugin makes are marked: it finds the one that is logged in now. What a
// web service token may not see it leaves out, without a word.
func (d *OAuth2Door) verify(ctx context.Context, who gateway.Identity, n Newcomer, seen []moodle.Account) error {
	if d.finds(seen, who, n) == nil {
		return nil
	}
	mail := who.User.Email
	if mail == "" {
		mail = n.Account.Email
	}
	found, err := d.Accounts(ctx, "email", mail)
	if err != nil {
		return err
	}
	if err := d.finds(found, who, n); err != nil {
		return refusal{gateway.RuleAccountRefused, err}
	}
	return nil
}

func (d *OAuth2Door) finds(accounts []moodle.Account, who gateway.Identity, n Newcomer) error {
	for _, account := range accounts {
		switch {
		case account.ID != who.User.ID:
		case account.Auth == moodle.AuthOAuth2:
			return d.isMarked(account, n)
		default:
			return nil
		}
	}
	return fmt.Errorf("the token of landing.token_file does not show account %d by its mail address: its user needs moodle/user:viewdetails, "+
		"moodle/user:viewalldetails and moodle/site:viewuseridentity, and email has to be among the site's showuseridentity", who.User.ID)
}

// has reports whether there is an account that the plugin has made, or one of
// Moodle's own MNet: whether that is linked, only Moodle knows.
func (d *OAuth2Door) has(ctx context.Context, n Newcomer) (bool, error) {
	has, err := hasAccount(ctx, d.Accounts, n.Account.Username, moodle.AuthOAuth2)
	learner := strings.ToLower(n.Learner)
	if has || err != nil || !plainName.MatchString(learner) {
		return has, err
	}
	return hasAccount(ctx, d.Accounts, learner, moodle.AuthMNet)
}

// plainName is what a web service takes for a username, in any configuration.
var plainName = regexp.MustCompile(`^[a-z0-9._@-]+$`)

func (d *OAuth2Door) begins(auth string) bool {
	return auth == moodle.AuthOAuth2 || auth == moodle.AuthMNet
}
