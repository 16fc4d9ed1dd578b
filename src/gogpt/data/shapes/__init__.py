"""The few shapes that many schemas are made of: fields, turns, tool calls, dialogues written as text."""
