package chat

import (
	"strings"
	"unicode"

	"afmq/pkg/chat/internal/jinja"
	"afmq/pkg/fault"
)

// continueTag is what transformers appends to the final message, to find its end in the text.
const continueTag = "CONTINUE_FINAL_MESSAGE_TAG "

// tagFinal appends the tag to the content of the last message.
func (c *conversation) tagFinal(source string) error {
	content, ok := c.last.Get("content")
	if !ok {
		return fault.Usagef("the final message has no content to continue")
	}
	if !strings.Contains(source, "content") {
		return fault.Usagef("the chat template does not use the content of messages")
	}
	if s, ok := content.(string); ok {
		c.final = s
		c.last.Set("content", s+continueTag)
		return nil
	}
	list, ok := content.(*jinja.List)
	if !ok || len(list.Items) == 0 {
		return fault.Usagef("the final message has no text to continue")
	}
	part := list.Items[len(list.Items)-1].(*jinja.Dict)
	text, _ := part.Get("text")
	c.final, _ = text.(string)
	part.Set("text", c.final+continueTag)
	return nil
}

// cutFinal removes the tag, and all after it.
func (c *conversation) cutFinal(text string) (string, error) {
	tag := strings.TrimSpace(continueTag)
	at := strings.LastIndex(text, tag)
	if at < 0 || !strings.Contains(text, strings.TrimFunc(c.final, unicode.IsSpace)) {
		return "", fault.Usagef("the chat template changes the final message, so it cannot be continued")
	}
	if strings.HasPrefix(text[at:], continueTag) {
		return text[:at], nil
	}
	// The template trims the message, so the text before the tag is trimmed as well.
	return strings.TrimRightFunc(text[:at], unicode.IsSpace), nil
}
