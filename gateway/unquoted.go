package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
)

// Unquoted returns an error of Go's HTTP client whose text ends where it begins
// to quote the answer. Of a header that cannot be read net/http quotes the whole
// line, which may be a session cookie, and errors are logged. What says why there
// is no connection stays as it is.
func Unquoted(err error) error {
	if request, ok := err.(*url.Error); ok { // quotes the address that was asked for first
		return &url.Error{Op: request.Op, URL: request.URL, Err: Unquoted(request.Err)}
	}
	if err == nil {
		return nil
	}
	_, network := errors.AsType[*net.OpError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	text, _, quotes := strings.Cut(err.Error(), `"`)
	if !quotes || network || certificate {
		return err
	}
	return &unquotedError{strings.TrimRight(text, " :="), err}
}

// unquotedError is err with another text.
type unquotedError struct {
	text string
	err  error
}

func (e *unquotedError) Error() string { return e.text }

func (e *unquotedError) Unwrap() error { return e.err }
