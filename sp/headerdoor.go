package sp

import (
	"context"
	"errors"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
)

// HeaderDoor lets learners in by the headers of an inner request, which Moodle's
// core plugin auth_shibboleth believes.
type HeaderDoor struct {
	Moodle HeaderMoodle

	// Accounts returns the accounts that have a value in a field: see
	// moodle.Web.AccountsBy. It is asked only about learners of homes whose AutoAdd
	// looks up.
	Accounts func(ctx context.Context, field, value string) ([]moodle.Account, error)
}

// HeaderMoodle is a Moodle that logs in by headers: moodle.Web.
type HeaderMoodle interface {
	HeaderLogin(ctx context.Context, b moodle.Browser, u gateway.User) (moodle.Login, error)
}

func (d *HeaderDoor) logIn(ctx context.Context, b moodle.Browser, n Newcomer) (moodle.Login, []moodle.Account, error) {
	login, err := d.Moodle.HeaderLogin(ctx, b, n.Account)
	return login, nil, loginRefused(err)
}

// loginRefused makes a refusal of Moodle's one of ours.
func loginRefused(err error) error {
	if errors.Is(err, moodle.ErrLoginRefused) {
		return refusal{gateway.RuleAccountRefused, err}
	}
	return err
}

func (d *HeaderDoor) owns(who gateway.Identity, n Newcomer) bool {
	u := who.User
	return u.ID != 0 && u.Username == n.Account.Username && u.Auth == moodle.AuthHeader && !who.Remote && !who.LoginAs
}

func (d *HeaderDoor) verify(context.Context, gateway.Identity, Newcomer, []moodle.Account) error {
	return nil
}

func (d *HeaderDoor) has(ctx context.Context, n Newcomer) (bool, error) {
	return hasAccount(ctx, d.Accounts, n.Account.Username, moodle.AuthHeader)
}

// hasAccount reports whether there is an account of a name that an auth logs in.
func hasAccount(ctx context.Context, accounts func(context.Context, string, string) ([]moodle.Account, error), username, auth string) (bool, error) {
	found, err := accounts(ctx, "username", username)
	for _, account := range found {
		if account.Username == username && account.Auth == auth {
			return true, nil
		}
	}
	return false, err
}

func (d *HeaderDoor) begins(auth string) bool { return auth == moodle.AuthHeader }
