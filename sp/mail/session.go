package mail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"jumpgate/gateway"
)

// session is what a client and the next server say to each other, mail after
// mail. Only the goroutine of the connection uses it.
type session struct {
	ctx    context.Context
	o      *RelayOptions
	latest func() *RelayOptions
	conn   *conn
	server *smtp.Server

	next    *smtp.Client // nil while there is no connection
	keepNow func() bool  // keeps it when ctx ends
	used    bool         // next has had a mail before
	open    bool         // next has a sender, and not yet the whole mail

	mail struct { // since its sender was named
		begun      time.Time
		homes      *Homes        // as they were then
		home       *gateway.Peer // of the first recipient
		domain     string
		recipients int
	}
	sent Event // the last one of a mail that was sent
}

// Answers of our own.
var (
	errNextSilent  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "The next mail server is not to be had, try again later"}
	errOtherHome   = &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 5, 3}, Message: "Too many recipients: this one has another home than the first, send it apart"}
	errBadAddress  = &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 1, 3}, Message: "No such address can be"}
	errNoChunks    = &smtp.SMTPError{Code: 502, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "BDAT is not offered"}
	errNo8Bit      = &smtp.SMTPError{Code: 555, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "8BITMIME is not offered"}
	errLineTooLong = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "A line of the mail is too long"}
	errBareCR      = &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "A dot after a carriage return alone is not passed on"}
	errClientGone  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 4, 2}, Message: "The mail did not come to its end"}
)

// begin connects to the next server, so that the client is offered what that
// offers.
func (s *session) begin() error {
	if err := s.connect(); err != nil {
		return err
	}
	s.server.EnableSMTPUTF8, _ = s.next.Extension("SMTPUTF8")
	s.server.EnableDSN, _ = s.next.Extension("DSN")
	if size, ok := s.next.MaxMessageSize(); ok && size > 0 {
		s.server.MaxMessageBytes = min(s.server.MaxMessageBytes, int64(size))
	}
	// BDAT would come in another goroutine, and may be binary.
	s.conn.hidden["250-CHUNKING\r\n"] = true
	s.conn.hidden["250-8BITMIME\r\n"] = !s.takes8Bit()
	return nil
}

func (s *session) takes8Bit() bool {
	ok, _ := s.next.Extension("8BITMIME")
	return ok
}

// connect makes sure that there is a connection to the next server.
func (s *session) connect() error {
	if s.next != nil {
		return nil
	}
	next, err := s.o.Next.dial(s.ctx, s.o.Hostname, s.o.Timeout)
	if err != nil {
		return s.fail(fmt.Errorf("the next mail server: %w", err), errNextSilent)
	}
	s.next, s.used, s.open = next, false, false
	s.keepNow = context.AfterFunc(s.ctx, func() { next.Close() })
	return nil
}

// hangUp closes the connection to the next server without a word: it forgets
// a mail that it does not have to its end.
func (s *session) hangUp() {
	if s.next != nil {
		s.keepNow()
		s.next.Close()
	}
	s.next, s.open = nil, false
}

// Mail names the sender.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	s.Reset()
	s.mail.begun, s.mail.homes = time.Now(), s.latest().Homes
	err := s.begins(from, opts)
	s.conn.setBusy(err == nil)
	return err
}

func (s *session) begins(from string, opts *smtp.MailOptions) error {
	address, ok := envelope(from)
	if !ok && from != "" {
		return errBadAddress
	}
	passed := *opts
	passed.Auth = nil // whoever the client is, it is not known to the next server
	for try := 0; ; try++ {
		if err := s.connect(); err != nil {
			return err
		}
		if opts.Body == smtp.Body8BitMIME && !s.takes8Bit() {
			return errNo8Bit
		}
		used := s.used
		err := s.next.Mail(address, &passed)
		if err == nil {
			s.open, s.used = true, true
			return nil
		}
		if try == 0 && used && s.gone(err) {
			s.hangUp() // it had waited long enough for another mail
			continue
		}
		return s.refused(err)
	}
}

// gone reports whether an error ends the connection to the next server.
func (s *session) gone(err error) bool {
	said, ok := errors.AsType[*smtp.SMTPError](err)
	return !ok || said.Code == 421
}

// Rcpt names a recipient. Those of one mail have one home.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	address, ok := envelope(to)
	if !ok {
		return errBadAddress
	}
	home, err := s.mail.homes.Home(s.ctx, to)
	if err != nil {
		home = nil // the links work all the same, with one more question on the way
	}
	if s.mail.recipients > 0 && home != s.mail.home {
		return errOtherHome
	}
	s.mail.domain = to[strings.LastIndexByte(to, '@')+1:]
	if s.next == nil {
		return errNextSilent
	}
	if err := s.next.Rcpt(address, opts); err != nil {
		return s.refused(err)
	}
	s.mail.home = home
	s.mail.recipients++
	return nil
}

// Data takes the mail and gives it to the next server. What that says is the
// answer.
func (s *session) Data(r io.Reader) error {
	if _, chunks := r.(*io.PipeReader); chunks {
		return errNoChunks
	}
	if s.next == nil {
		return errNextSilent
	}
	w, err := s.next.Data()
	if err != nil {
		return s.refused(err)
	}
	// Whatever else would be said to the next server now, go-smtp would end the
	// mail before it, and half a mail would be sent.
	whole := false
	defer func() {
		if !whole {
			s.hangUp()
		}
	}()
	body := &guardedReader{r: r}
	result, err := s.copy(w, body)
	if err != nil {
		return s.cut(result, body.err, err)
	}
	whole = true
	answer, err := w.CloseWithResponse()
	s.open = false
	if said, ok := errors.AsType[*smtp.SMTPError](err); ok && said.Code/100 != 2 {
		return s.refused(err)
	}
	if err != nil {
		s.hangUp()
		s.observe(Event{Outcome: OutcomeUnknown, Result: result, Code: errNextSilent.Code, Err: err})
		return errNextSilent
	}
	s.sent = s.observe(Event{Outcome: OutcomeSent, Result: result, Code: 250})
	s.conn.tell()
	// go-smtp writes any error with its code and words: these are the next
	// server's, with the name that it gave the mail.
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.NoEnhancedCode, Message: printable(answer.StatusText)}
}

// copy copies the mail, with its links changed if its recipients have a home.
func (s *session) copy(w io.Writer, r io.Reader) (Result, error) {
	if s.mail.home == nil {
		_, err := io.Copy(w, r)
		return Result{}, err
	}
	return NewRewriter(s.o.Site, s.o.Aliases, s.mail.home).Rewrite(w, r)
}

// cut is a mail that was not copied to its end: because of the client, if it
// could not be read.
func (s *session) cut(result Result, readErr, err error) error {
	outcome, answer := OutcomeDeferred, errNextSilent
	if said, ok := errors.AsType[*smtp.SMTPError](readErr); ok {
		outcome, answer = OutcomeRefused, said // too large, or not fit to be passed on
	} else if errors.Is(readErr, smtp.ErrTooLongLine) {
		outcome, answer = OutcomeRefused, errLineTooLong
	} else if readErr != nil {
		outcome, answer = OutcomeAborted, errClientGone
	}
	s.observe(Event{Outcome: outcome, Result: result, Code: answer.Code, Err: err})
	return answer
}

// refused returns what the next server said instead of yes, as an answer.
func (s *session) refused(err error) error {
	said, ok := errors.AsType[*smtp.SMTPError](err)
	if s.gone(err) {
		s.hangUp()
	}
	if !ok || said.Code/100 != 4 && said.Code/100 != 5 {
		return s.fail(err, errNextSilent) // never a yes that was none
	}
	return s.fail(err, &smtp.SMTPError{Code: said.Code, EnhancedCode: said.EnhancedCode, Message: printable(said.Message)})
}

// fail records an answer that is no.
func (s *session) fail(err error, answer *smtp.SMTPError) error {
	outcome := OutcomeDeferred
	if answer.Code/100 == 5 {
		outcome = OutcomeRefused
	}
	s.observe(Event{Outcome: outcome, Code: answer.Code, Err: err})
	return answer
}

func (s *session) observe(e Event) Event {
	e.Err = withoutWords(e.Err)
	e.Home, e.Domain, e.Recipients = s.mail.home, s.mail.domain, s.mail.recipients
	if !s.mail.begun.IsZero() {
		e.Duration = time.Since(s.mail.begun)
	}
	s.o.Observe(s.ctx, e)
	return e
}

// withoutWords leaves of a server's answer the code alone: the words may name
// people.
func withoutWords(err error) error {
	if said, ok := errors.AsType[*smtp.SMTPError](err); ok {
		return fmt.Errorf("answered with %d %d.%d.%d", said.Code, said.EnhancedCode[0], said.EnhancedCode[1], said.EnhancedCode[2])
	}
	return err
}

// Reset forgets a mail that is not to be sent.
func (s *session) Reset() {
	if s.open && s.next != nil {
		if err := s.next.Reset(); err != nil {
			s.hangUp()
		}
	}
	s.open = false
	s.mail.home, s.mail.recipients = nil, 0
	s.conn.setBusy(false)
}

// Logout is called when the connection is about to end; leave does the rest
// when it has.
func (s *session) Logout() error { return nil }

// farewell bounds how long the next server may take to say good-bye.
const farewell = 2 * time.Second

// leave says good-bye to the next server.
func (s *session) leave() {
	if s.next == nil {
		return
	}
	if !s.open && s.ctx.Err() == nil {
		s.next.CommandTimeout = farewell
		s.next.Quit()
	}
	s.hangUp()
}
