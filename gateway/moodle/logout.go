package moodle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Logout ends a browser's session as a click on "Log out" does: with the key
// that the session itself shows. It belongs to the user userID, also while that
// user wears another account ("login as"); a session of somebody else's is left
// alone, which is an error. A session that is over or nobody's is none. Errors
// never contain the cookie or the sesskey.
func (w *Web) Logout(ctx context.Context, b Browser, userID int64) error {
	if !validSessionID(b.Session) {
		return errors.New("log out of moodle: no session id")
	}
	ctx, cancel := context.WithTimeout(ctx, webTimeout)
	defer cancel()
	if err := w.logout(ctx, b, userID); err != nil {
		return fmt.Errorf("log out of moodle: %w", err)
	}
	return w.Forget(ctx, b.Session)
}

func (w *Web) logout(ctx context.Context, b Browser, userID int64) error {
	p, err := w.loginPage(ctx, b)
	if err != nil {
		return fmt.Errorf("login page: %w", err)
	}
	if p.elsewhere { // to SAML, CAS, a second factor: the page that asks whether to log out has the key as well
		if p, err = w.page(ctx, b, PageLogout, ""); err == nil && p.elsewhere {
			err = errors.New("it leads elsewhere, and so does the login page")
		}
		if err != nil {
			return fmt.Errorf("logout page: %w", err)
		}
	}
	if p.nobody {
		return nil
	}
	owner := p.userID
	if p.loginAs || owner == 0 {
		if owner, err = w.sessionOwner(ctx, b, p.sesskey); err != nil {
			return err
		}
	}
	switch owner {
	case userID:
	case 0: // it ended in between, or lacks something since
		return errors.New("moodle does not say whose the session is")
	default:
		return fmt.Errorf("the session is user %d's, not user %d's", owner, userID)
	}
	// A form, so that the key is in nobody's access log.
	req, err := w.request(ctx, http.MethodPost, PageLogout, []byte(url.Values{"sesskey": {p.sesskey}}.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w.actFor(req, b)
	status, header, _, err := w.do(req)
	if err != nil {
		return err
	}
	if after, changed := SetsSession(header, w.o.Cookie); !changed || after == b.Session {
		return fmt.Errorf("the session goes on: logout.php answered with status %d", status)
	}
	return nil
}
