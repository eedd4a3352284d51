package moodle

import (
	"errors"
	"fmt"
	"strings"
)

// The user fields that are kept, as indexes of variables.user.
const (
	fieldID = iota
	fieldUsername
	fieldFirstName
	fieldLastName
	fieldEmail
	fieldAuth
	fieldCity
	fieldCountry
	fieldLang
	fieldTimezone
	fieldMailFormat
	fieldMailDigest
	fieldMailDisplay
	fieldPicture
	fieldDescription
	fieldMnetHostID
	fieldSuspended
	fieldDeleted
	fieldRealUser
	numFields
)

// userField returns the index of a field of $USER that is kept, or -1.
func userField(name string) int {
	switch name {
	case "id":
		return fieldID
	case "username":
		return fieldUsername
	case "firstname":
		return fieldFirstName
	case "lastname":
		return fieldLastName
	case "email":
		return fieldEmail
	case "auth":
		return fieldAuth
	case "city":
		return fieldCity
	case "country":
		return fieldCountry
	case "lang":
		return fieldLang
	case "timezone":
		return fieldTimezone
	case "mailformat":
		return fieldMailFormat
	case "maildigest":
		return fieldMailDigest
	case "maildisplay":
		return fieldMailDisplay
	case "picture":
		return fieldPicture
	case "description":
		return fieldDescription
	case "mnethostid":
		return fieldMnetHostID
	case "suspended":
		return fieldSuspended
	case "deleted":
		return fieldDeleted
	case "realuser":
		return fieldRealUser
	}
	return -1
}

// variables is what is kept of a session's text.
type variables struct {
	user        [numFields]scalar // $_SESSION['USER']
	userSeen    [numFields]bool
	realUserID  scalar // $_SESSION['REALUSER']->id
	mfa         scalar // $_SESSION['SESSION']->tool_mfa_authenticated
	newPassword scalar // $_SESSION['USER']->preference['auth_forcepasswordchange']
	hasUser     bool
	hasRealUser bool
	hasSession  bool
}

// parse reads a session's text as PHP's session.serialize_handler "php"
// writes it, the one that Moodle insists on (source: prepare_cookies in
// lib/classes/session/manager.php): a name, "|" and a serialised value, over
// and over. What is not kept is skipped, but must be well formed: the text
// "USER|" may occur inside a string.
func (v *variables) parse(text string) error {
	p := parser{text: text}
	for p.pos < len(text) {
		n := strings.IndexByte(text[p.pos:], '|')
		if n < 1 {
			return errors.New("session data does not begin with the name of a variable")
		}
		name := text[p.pos : p.pos+n]
		p.pos += n + 1
		if err := v.variable(&p, name); err != nil {
			return err
		}
	}
	return nil
}

// variable reads the value of one variable. PHP writes no name twice.
func (v *variables) variable(p *parser, name string) (err error) {
	switch name {
	case "USER":
		if v.hasUser {
			return fmt.Errorf("session has two variables %s", name)
		}
		v.hasUser = true
		_, err = p.object(func(field string, value scalar) error {
			if field == "preference" {
				return v.keepPreferences(p.kept)
			}
			return v.keepUser(field, value)
		})
	case "REALUSER":
		if v.hasRealUser {
			return fmt.Errorf("session has two variables %s", name)
		}
		v.hasRealUser, err = p.object(func(field string, value scalar) error {
			if field == "id" {
				v.realUserID = value
			}
			return nil
		})
	case "SESSION":
		if v.hasSession {
			return fmt.Errorf("session has two variables %s", name)
		}
		v.hasSession = true
		_, err = p.object(func(field string, value scalar) error {
			if field == "tool_mfa_authenticated" {
				v.mfa = value
			}
			return nil
		})
	default:
		_, err = p.value(0)
	}
	return err
}

// keepPreferences looks into the serialised $USER->preference for the one that
// makes Moodle send its user to a page for a new password from everywhere.
func (v *variables) keepPreferences(text string) error {
	p := parser{text: text}
	if !strings.HasPrefix(text, "a:") {
		return nil // not loaded yet
	}
	p.pos = len("a:")
	return p.members(1, func(name string, value scalar) error {
		if name == "auth_forcepasswordchange" {
			v.newPassword = value
		}
		return nil
	})
}

// keepUser notes a field of $USER if it is one that matters.
func (v *variables) keepUser(field string, value scalar) error {
	i := userField(field)
	if i < 0 {
		return nil
	}
	if v.userSeen[i] {
		return fmt.Errorf("session: user field %s occurs twice", field)
	}
	if value.kind == kindOther {
		return fmt.Errorf("session: user field %s is not a scalar", field)
	}
	v.userSeen[i], v.user[i] = true, value
	return nil
}
